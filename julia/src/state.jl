# State and gradients of a stack under canonical names, as wire arrays (see pygan/state.py).

"Parameters and moments of one network: what its updates move."
function moved(name, network, optimiser)
    out = Dict{String,Any}()
    each_tensor(name, network, parameter_fields) do path, place, rule
        leaf = lying_at(optimiser, place)
        out["parameter/$path"] = to_wire(rule, Array(lying_at(network, place)))
        merge!(out, Dict("$slot/$path" => to_wire(rule, Array(value)) for (slot, value) in slots(leaf.rule, leaf.state)))
    end
    return out
end

"The full state of the stack."
function state(stack::FluxStack)
    out = Dict{String,Any}("step" => fill(Int64(stack.steps)))
    for (name, network) in stack.networks
        optimiser = stack.optimisers[name]
        merge!(out, moved(name, network, optimiser))
        powers = network_powers(name, network, optimiser)
        isnothing(powers) || (out["beta_power/$name"] = powers)
        each_tensor(name, network, buffer_fields) do path, place, rule
            out["buffer/$path"] = to_wire(rule, Array(lying_at(network, place)))
        end
    end
    return out
end

"Products of the betas that a network's next update will use; nothing where its rule has none."
function network_powers(name, network, optimiser)
    found = nothing
    each_tensor(name, network, parameter_fields) do path, place, rule
        leaf = lying_at(optimiser, place)
        found = beta_powers(leaf.rule, leaf.state)
    end
    return found
end

"Continue from a state; every key must be there, of the right size and element type, and none besides."
function load_state!(stack::FluxStack, given::AbstractDict)
    expected = state(stack)
    faults = ["$key is missing" for key in setdiff(keys(expected), keys(given))]
    append!(faults, ["$key is not part of this recipe" for key in setdiff(keys(given), keys(expected))])
    for key in intersect(keys(given), keys(expected))
        mine, theirs = given[key], expected[key]
        size(mine) == size(theirs) && eltype(mine) == eltype(theirs) && continue
        push!(faults, "$key is $(eltype(mine)) of size $(size(mine)), expected $(eltype(theirs)) $(size(theirs))")
    end
    isempty(faults) || error("state does not fit: " * join(sort!(faults), "; "))
    for (name, network) in stack.networks
        leaves = stack.optimisers[name]
        each_tensor(name, network, parameter_fields) do path, place, rule
            copyto!(lying_at(network, place), to_flux(rule, given["parameter/$path"]))
            leaf = lying_at(leaves, place)
            stored(slot) = to_flux(rule, given["$slot/$path"])
            leaf.state = restored(leaf.rule, leaf.state, stored, get(given, "beta_power/$name", nothing))
        end
        each_tensor(name, network, buffer_fields) do path, place, rule
            copyto!(lying_at(network, place), to_flux(rule, given["buffer/$path"]))
        end
    end
    stack.steps = only(given["step"])
    return stack
end

"Gradients of one update of a network as wire arrays; a parameter without one is left out."
function gradient_arrays(update, name, network, gradient)
    out = Pair{String,Any}[]
    each_tensor(name, network, parameter_fields) do path, place, rule
        value = lying_at(gradient, place)
        isnothing(value) || push!(out, "gradient/$update/$path" => to_wire(rule, Array(value)))
    end
    return out
end

"Layout rule of each parameter and buffer."
function layout_rules(stack::FluxStack)
    out = Dict{String,String}()
    for (name, network) in stack.networks, fields in (parameter_fields, buffer_fields)
        each_tensor((path, _, rule) -> (out[path] = rule.name), name, network, fields)
    end
    return out
end

"""
All that an exact continuation needs: the state, and under `exact/` what the state rounds or leaves out (velocities as
the rules keep them, the words of Julia's own generator where the run draws from it).
"""
function checkpoint(stack::FluxStack)
    out = state(stack)
    for (name, network) in stack.networks
        each_tensor(name, network, parameter_fields) do path, place, rule
            leaf = lying_at(stack.optimisers[name], place)
            foreach(value -> out["exact/velocity/$path"] = to_wire(rule, Array(value)), velocities(leaf.rule, leaf.state))
        end
    end
    stack.config.randomness == "native" && (out["exact/generator"] = generator_words(stack.config))
    return out
end

"Continue exactly from what `checkpoint` gave."
function restore!(stack::FluxStack, given::AbstractDict)
    missing_keys = setdiff(keys(checkpoint(stack)), keys(given))
    isempty(missing_keys) || error("state does not fit: $(join(sort!(collect(missing_keys)), ", ")) missing")
    load_state!(stack, filter(((key, _),) -> !startswith(key, "exact/"), given))
    for (name, network) in stack.networks
        each_tensor(name, network, parameter_fields) do path, place, rule
            leaf = lying_at(stack.optimisers[name], place)
            foreach(value -> copyto!(value, to_flux(rule, given["exact/velocity/$path"])), velocities(leaf.rule, leaf.state))
        end
    end
    haskey(given, "exact/generator") &&
        copy!(Random.default_rng(), Random.Xoshiro(reinterpret(UInt64, given["exact/generator"])...))
    return stack
end

function generator_words(config)
    config.device == "cpu" || error("cannot be continued: the state of a GPU's generator cannot be read")
    generator = copy(Random.default_rng())
    return collect(reinterpret(Int64, UInt64[getfield(generator, name) for name in fieldnames(Random.Xoshiro)]))
end

# State and gradients of a stack under canonical names, as wire arrays (see pygan/state.py).

layer_kind(::Dense) = "dense"
layer_kind(::Conv) = "conv"
layer_kind(::ConvTranspose) = "conv_transpose"
layer_kind(::BatchNorm) = "batch_norm"
layer_kind(::Any) = ""

"Canonical tensor name => field, trained ones first by group."
parameter_fields(::Any) = ()
parameter_fields(l::Union{Dense,Conv,ConvTranspose}) =
    l.bias isa AbstractArray ? ("weight" => :weight, "bias" => :bias) : ("weight" => :weight,)
parameter_fields(::BatchNorm) = ("weight" => :γ, "bias" => :β)
buffer_fields(::Any) = ()
buffer_fields(::BatchNorm) = ("running_mean" => :μ, "running_var" => :σ²)

"Calls `visit(path, layer_name, field, rule)` for each tensor of a network chosen by `fields`."
function each_tensor(visit, name, network, fields)
    for (layer_name, layer) in named_layers(network), (tensor, field) in fields(layer)
        visit("$name.$layer_name.$tensor", layer_name, field, layout_rule("$(layer_kind(layer)).$tensor"))
    end
end

"Parameters and moments of one network: what its updates move."
function moved(name, network, optimiser)
    out = Dict{String,Any}()
    each_tensor(name, network, parameter_fields) do path, layer, field, rule
        leaf = optimiser.layers[layer][field]
        out["parameter/$path"] = to_wire(rule, Array(getfield(network.layers[layer], field)))
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
        each_tensor(name, network, buffer_fields) do path, layer, field, rule
            out["buffer/$path"] = to_wire(rule, Array(getfield(network.layers[layer], field)))
        end
    end
    return out
end

"Products of the betas that a network's next update will use; nothing where its rule has none."
function network_powers(name, network, optimiser)
    found = nothing
    each_tensor(name, network, parameter_fields) do path, layer, field, rule
        leaf = optimiser.layers[layer][field]
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
        leaves = stack.optimisers[name].layers
        each_tensor(name, network, parameter_fields) do path, layer, field, rule
            copyto!(getfield(network.layers[layer], field), to_flux(rule, given["parameter/$path"]))
            leaf = leaves[layer][field]
            stored(slot) = to_flux(rule, given["$slot/$path"])
            leaf.state = restored(leaf.rule, leaf.state, stored, get(given, "beta_power/$name", nothing))
        end
        each_tensor(name, network, buffer_fields) do path, layer, field, rule
            copyto!(getfield(network.layers[layer], field), to_flux(rule, given["buffer/$path"]))
        end
    end
    stack.steps = only(given["step"])
    return stack
end

"Gradients of one update of a network as wire arrays; a parameter without one is left out."
function gradient_arrays(update, name, network, gradient)
    out = Pair{String,Any}[]
    each_tensor(name, network, parameter_fields) do path, layer, field, rule
        part = gradient.layers[layer]
        value = isnothing(part) ? nothing : getproperty(part, field)
        isnothing(value) || push!(out, "gradient/$update/$path" => to_wire(rule, Array(value)))
    end
    return out
end

"Layout rule of each parameter and buffer."
function layout_rules(stack::FluxStack)
    out = Dict{String,String}()
    for (name, network) in stack.networks, fields in (parameter_fields, buffer_fields)
        each_tensor((path, _, _, rule) -> (out[path] = rule.name), name, network, fields)
    end
    return out
end

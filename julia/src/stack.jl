# The flux stack: networks, optimiser states and step count of one run, and what a recipe's step is written in.

mutable struct FluxStack{C}
    config::C
    move::Any
    networks::Dict{String,Chain}
    optimisers::Dict{String,Any}
    steps::Int
end

function FluxStack(config)
    stack = FluxStack(config, mover(config.device), Dict{String,Chain}(), Dict{String,Any}(), 0)
    initialise!(stack)
    return stack
end

"Fresh networks and optimisers from the config's seed."
function initialise!(stack::FluxStack)
    c = stack.config
    c.randomness == "native" && Random.seed!(c.seed)
    stack.networks = networks(c)
    foreach(check_known, keys(stack.networks), values(stack.networks))
    if c.randomness == "keyed"
        draws = Draws(c.seed)
        for (name, network) in stack.networks, (path, layer) in named_layers(network)
            weight_draws!(c, draws, "$name.$path", layer)
        end
    end
    widened = c.dtype == "float64" ? Flux.f64 : identity
    stack.networks = Dict(name => stack.move(widened(network)) for (name, network) in stack.networks)
    rules = optimisers(c)
    stack.optimisers = Dict(name => Flux.setup(rules[name], network) for (name, network) in stack.networks)
    stack.steps = 0
    return stack
end

function weight_draws!(c, draws, path, layer)
    kind = layer_kind(layer)
    kind in ("dense", "conv", "conv_transpose") || return nothing
    rule = layout_rule("$kind.weight")
    stored = reverse(rule.torch)
    dims = Tuple(size(layer.weight, findfirst(==(axis), rule.flux)) for axis in stored)
    layer.weight .= to_flux(rule, initial_weight(c, draws, "init/$path.weight", kind, dims))
    layer.bias isa AbstractArray && fill!(layer.bias, 0)
    return nothing
end

"What one step records, in the order in which it happens."
mutable struct Run{C}
    config::C
    move::Any
    networks::Dict{String,Chain}
    optimisers::Dict{String,Any}
    draws::Union{Draws,NativeDraws}
    capture::Set{String}
    kept::Dict{String,Any}
    order::Vector{String}
    "The last update of each network so far."
    updated::Dict{String,String}
end

function Run(stack::FluxStack, keyed, capture=Set{String}(), order=String[])
    draws = stack.config.randomness == "native" ? NativeDraws() : keyed
    kept, updated = Dict{String,Any}(), Dict{String,String}()
    return Run(
        stack.config, stack.move, stack.networks, stack.optimisers, draws, Set{String}(capture), kept, order, updated
    )
end

captures(run::Run, words...) = !isdisjoint(run.capture, words)

function keep!(run::Run, key, value)
    run.kept[key] = value
    push!(run.order, key)
    return nothing
end

"A drawn or received array in the run's dtype on its device."
on_device(run, array) = run.move(element_type(run.config).(array))

"""
`chain(x)`; dropout patterns are the draws `mask/<name>/<layer>`. Where layers or on/off patterns are asked for, the
chain is applied layer by layer and what leaves each is kept.
"""
function call(run::Run, name, network, chain, x)
    ignore_derivatives() do
        for (path, layer) in named_layers(chain)
            layer isa DrawnDropout || continue
            layer.source[] = (dims, rate) -> keep(run.draws, "mask/$name/$network.$path", dims, rate)
        end
    end
    inside = NNlib.within_gradient(x)
    patterns = inside && captures(run, "patterns", "patterns:$name")
    layers = captures(run, "layers", "layer_sketches")
    result = if patterns || layers
        taps = ignore_derivatives() do
            Taps(run, "$name/$network", layers, patterns, published_names(run.config, network))
        end
        tapped(taps, "", chain, layers ? tap(taps, "input", x) : x)
    else
        chain(x)
    end
    ignore_derivatives(() -> inside && keep_buffers!(run, name, network, chain))
    return result
end

"Keep the running statistics as a call in train mode left them."
function keep_buffers!(run::Run, name, network, chain)
    each_tensor(network, chain, buffer_fields) do path, place, rule
        push!(run.order, "state/buffer/$path")
        captures(run, "state") || return nothing
        keep!(run, "buffer/$name/$path", to_wire(rule, Array(lying_at(chain, place))))
    end
end

"What to keep of one call, under which prefix; `names` renames layers that are fused with an activation."
struct Taps
    run::Run
    prefix::String
    layers::Bool
    patterns::Bool
    names::NamedTuple
end

"A network applied layer by layer, keeping what is asked for: of every Chain and branch what leaves its layers."
tapped(taps, path, chain::Chain, x) = in_turn(taps, path, Tuple(keys(chain.layers)), Tuple(chain.layers), x)
tapped(taps, path, skip::SkipConnection, x) = skip.connection(tapped(taps, path, skip.layers, x), x)
tapped(taps, path, branches::Parallel, x) =
    branches.connection(side_by_side(taps, path, Tuple(keys(branches.layers)), Tuple(branches.layers), x)...)

function tapped(taps, path, layer, x)
    training = has_mode(layer) && in_train_mode(layer, x)
    y = layer(x)
    published = ignore_derivatives() do
        published = string(get(taps.names, Symbol(path), path))
        taps.layers && has_mode(layer) && keep!(taps.run, "mode/$(taps.prefix).$path", fill(training))
        if taps.patterns && Symbol(published) in kinks(taps.run.config)
            keep!(taps.run, "pattern/$(taps.prefix).$published", Array(y .> 0))
        end
        published
    end
    return taps.layers ? tap(taps, published, y) : y
end

below(path, name) = ignore_derivatives(() -> joined(path, string(name)))

in_turn(taps, path, ::Tuple{}, ::Tuple{}, x) = x
in_turn(taps, path, names::Tuple, layers::Tuple, x) = in_turn(
    taps, path, Base.tail(names), Base.tail(layers), tapped(taps, below(path, first(names)), first(layers), x)
)

side_by_side(taps, path, ::Tuple{}, ::Tuple{}, x) = ()
function side_by_side(taps, path, names::Tuple, layers::Tuple, x)
    y = tapped(taps, below(path, first(names)), first(layers), x)
    return (y, side_by_side(taps, path, Base.tail(names), Base.tail(layers), x)...)
end

"`value`, kept; inside a gradient the gradient with respect to it is kept too."
function tap(taps, name, value)
    ignore_derivatives(() -> keep!(taps.run, "activation/$(taps.prefix).$name", Array(value)))
    return gradient_kept(value, taps, name)
end

gradient_kept(value, taps, name) = value

function ChainRulesCore.rrule(::typeof(gradient_kept), value, taps, name)
    pullback(gradient) = begin
        keep!(taps.run, "activation_gradient/$(taps.prefix).$name", Array(unthunk(gradient)))
        (NoTangent(), gradient, NoTangent(), NoTangent())
    end
    return value, pullback
end

has_mode(layer) = layer isa Union{BatchNorm,Dropout,DrawnDropout}
in_train_mode(layer::Union{BatchNorm,Dropout}, x) = Flux._isactive(layer, x)
in_train_mode(::DrawnDropout, x) = NNlib.within_gradient(x)

record!(run, key, value) = ignore_derivatives(() -> keep!(run, key, value))

"""
Gradient of `loss(network)` and one step of the network's optimiser. The update is called after the network, or
`network/what` where a step has several of it. Without a gradient nothing moves, as in Flux.
"""
function update!(loss, run::Run, name)
    network_name = String(first(split(name, '/')))
    network, optimiser = run.networks[network_name], run.optimisers[network_name]
    earlier = get(run.updated, network_name, nothing)
    value, gradients = Flux.withgradient(loss, network)
    keep!(run, "loss/$name", fill(value))
    gradient = gradients[1]
    isnothing(gradient) && return nothing
    if captures(run, "gradients", "sketches")
        for (key, value) in gradient_arrays(name, network_name, network, gradient)
            keep!(run, key, value)
        end
    end
    if !isnothing(earlier) && captures(run, "state")
        merge!(run.kept, Dict("updated/$earlier/$key" => value for (key, value) in moved(network_name, network, optimiser)))
    end
    Flux.update!(optimiser, network, gradient)
    run.updated[network_name] = name
    if captures(run, "state", "sketches")
        each_tensor(network_name, network, parameter_fields) do path, place, rule
            leaf = lying_at(optimiser, place)
            keys = ["$group/$path" for group in (first.(slots(leaf.rule, leaf.state))..., "parameter")]
            append!(run.order, ["$kind/$key" for kind in ("updated/$name", "state") for key in keys])
        end
        isnothing(network_powers(network_name, network, optimiser)) || push!(run.order, "state/beta_power/$network_name")
    end
    return nothing
end

"""
One step; returns what was kept as wire arrays by `kind/name`. `order` is filled with those keys in the order in which
the step computed them.
"""
function step!(stack::FluxStack, batch, draws::Draws, capture=(); order=String[])
    run = Run(stack, draws, Set{String}(capture), order)
    train_step!(run, stack.config, on_device(run, batch))
    stack.steps += 1
    out = Dict{String,Any}(key => plain(value) for (key, value) in run.kept)
    sketched(keys) = merge!(out, Dict("sketch/$key" => sketch(value) for (key, value) in keys))
    kept_as(kinds...) = filter(((key, _),) -> any(kind -> startswith(key, kind), kinds), out)
    if "sketches" in run.capture
        sketched(Dict{String,Any}("state/$key" => value for (key, value) in state(stack) if has_sketch(key)))
        sketched(kept_as("gradient/"))
    end
    "layer_sketches" in run.capture && sketched(kept_as("activation/", "activation_gradient/"))
    words = ("gradients" => "gradient/", "logits" => "logits/", "layers" => "activation/", "layers" => "activation_gradient/")
    for (word, kind) in words
        word in run.capture || filter!(((key, _),) -> !startswith(key, kind), out)
    end
    "state" in run.capture && merge!(out, Dict("state/$key" => value for (key, value) in state(stack)))
    return out
end

has_sketch(key) = !startswith(key, "beta_power/") && key != "step"

"A kept value as a plain array (zero-dimensional for a scalar)."
plain(value::AbstractArray) = Array(value)
plain(value::Number) = fill(value)

"Pictures (W, H, 1, n) from latent vectors (latent_dim, n)."
function generate(stack::FluxStack, latent)
    run = Run(stack, Draws(stack.config.seed))
    return Array(pictures(run, stack.config, on_device(run, latent)))
end

"Wall seconds of each step on `batches` in a row, and the sums of their losses."
function time_steps!(stack::FluxStack, batches, draws::Draws)
    seconds, losses = Float64[], Float64[]
    for batch in batches
        start = time_ns()
        run = Run(stack, at(draws, stack.steps))
        train_step!(run, stack.config, on_device(run, batch))
        push!(seconds, (time_ns() - start) / 1e9)
        stack.steps += 1
        push!(losses, sum(Float64(only(value)) for (key, value) in run.kept if startswith(key, "loss/")))
    end
    return seconds, losses
end

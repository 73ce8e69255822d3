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

"Layers of a Chain with their names."
named_layers(network::Chain) = pairs(network.layers)

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

"What one step records; filled while it runs."
mutable struct Run{C}
    config::C
    move::Any
    networks::Dict{String,Chain}
    optimisers::Dict{String,Any}
    draws::Union{Draws,NativeDraws}
    capture::Set{String}
    kept::Dict{String,Any}
end

function Run(stack::FluxStack, keyed, capture=Set{String}())
    draws = stack.config.randomness == "native" ? NativeDraws() : keyed
    return Run(stack.config, stack.move, stack.networks, stack.optimisers, draws, Set{String}(capture), Dict{String,Any}())
end

"A drawn or received array in the run's dtype on its device."
on_device(run, array) = run.move(element_type(run.config).(array))

"""
`chain(x)`; dropout patterns are the draws `mask/<name>/<layer>`, and inside a gradient the on/off patterns of its
kinks are kept where asked for.
"""
function call(run::Run, name, network, chain, x)
    ignore_derivatives() do
        for (path, layer) in named_layers(chain)
            layer isa DrawnDropout || continue
            layer.source[] = (dims, rate) -> keep(run.draws, "mask/$name/$network.$path", dims, rate)
        end
    end
    if !isdisjoint(run.capture, ("patterns", "patterns:$name")) && NNlib.within_gradient(x)
        return tapped(run, "pattern/$name/$network", KINKS[network], keys(chain.layers), Tuple(chain.layers), x)
    end
    return chain(x)
end

"A Chain applied layer by layer, keeping the sign pattern after each kink."
tapped(run, prefix, kinks, ::Tuple{}, ::Tuple{}, x) = x
function tapped(run, prefix, kinks, names::Tuple, layers::Tuple, x)
    y = first(layers)(x)
    ignore_derivatives() do
        name = first(names)
        haskey(kinks, name) && (run.kept["$prefix.$(kinks[name])"] = Array(y .> 0))
    end
    return tapped(run, prefix, kinks, Base.tail(names), Base.tail(layers), y)
end

record!(run, key, value) = ignore_derivatives(() -> (run.kept[key] = value; nothing))

"Gradient of `loss(network)` and one step of the network's optimiser. Without a gradient nothing moves, as in Flux."
function update!(loss, run::Run, name)
    network = run.networks[name]
    value, gradients = Flux.withgradient(loss, network)
    run.kept["loss/$name"] = fill(value)
    gradient = gradients[1]
    isnothing(gradient) && return nothing
    if !isdisjoint(run.capture, ("gradients", "sketches"))
        merge!(run.kept, gradient_arrays(name, network, gradient))
    end
    Flux.update!(run.optimisers[name], network, gradient)
    return nothing
end

"One step; returns what was kept as wire arrays by `kind/name`."
function step!(stack::FluxStack, batch, draws::Draws, capture=())
    run = Run(stack, draws, Set{String}(capture))
    train_step!(run, stack.config, on_device(run, batch))
    stack.steps += 1
    out = Dict{String,Any}(key => plain(value) for (key, value) in run.kept)
    if "sketches" in run.capture
        full = Dict{String,Any}("state/$key" => value for (key, value) in state(stack) if has_sketch(key))
        merge!(full, filter(((key, _),) -> startswith(key, "gradient/"), out))
        merge!(out, Dict("sketch/$key" => sketch(value) for (key, value) in full))
    end
    for (word, kind) in (("gradients", "gradient/"), ("logits", "logits/"))
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

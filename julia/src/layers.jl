# What layers a network is made of and which arrays they hold, under PyTorch's names: the torch side of these tables
# is `_RULE_OF_LAYER` in pygan/stacks/torch_stack.py, the axes are in share/layouts.toml.

"Row of the layout table; empty for a layer without parameters."
layer_kind(::Dense) = "dense"
layer_kind(::Conv) = "conv"
layer_kind(::ConvTranspose) = "conv_transpose"
layer_kind(::BatchNorm) = "batch_norm"
layer_kind(::GroupNorm) = "group_norm"
layer_kind(l::LayerNorm) = length(l.size) == 1 ? "layer_norm" : "layer_norm_$(length(l.size))d"
layer_kind(::Any) = ""

"Canonical tensor name => place in the layer (a field, or a way through several), in PyTorch's order."
parameter_fields(::Any) = ()
parameter_fields(l::Union{Dense,Conv,ConvTranspose}) =
    l.bias isa AbstractArray ? ("weight" => (:weight,), "bias" => (:bias,)) : ("weight" => (:weight,),)
parameter_fields(l::Union{BatchNorm,GroupNorm}) = l.affine ? ("weight" => (:γ,), "bias" => (:β,)) : ()
parameter_fields(l::LayerNorm) = l.affine ? ("weight" => (:diag, :scale), "bias" => (:diag, :bias)) : ()
buffer_fields(::Any) = ()
buffer_fields(l::BatchNorm) = l.track_stats ? ("running_mean" => (:μ,), "running_var" => (:σ²,)) : ()

"The layers inside a container as `name => (layer, place)`; a SkipConnection's has no name of its own."
parts(container::Union{Chain,Parallel}) =
    [string(name) => (layer, (:layers, name)) for (name, layer) in pairs(container.layers)]
parts(skip::SkipConnection) = ["" => (skip.layers, (:layers,))]
parts(_) = nothing

joined(outer, inner) = isempty(outer) || isempty(inner) ? "$outer$inner" : "$outer.$inner"

"Layers of a network in order as `(path, layer, place)`, with paths `outer.inner` through Chains and branches."
function placed_layers(network, path="", place=())
    inner = parts(network)
    isnothing(inner) && return [(path, network, place)]
    return reduce(vcat, (placed_layers(l, joined(path, name), (place..., way...)) for (name, (l, way)) in inner); init=[])
end

"Layers of a network with their paths, in order."
named_layers(network) = [path => layer for (path, layer, _) in placed_layers(network)]

"What lies at a place of a network, or of a tree of its shape; nothing where that tree ends before (gradients may)."
lying_at(tree, place) = foldl(step_into, place; init=tree)
step_into(::Nothing, _) = nothing
step_into(part::AbstractVector, name) = part[name]
step_into(part, name) = getproperty(part, name)

"Calls `visit(path, place, rule)` for each tensor of a network chosen by `fields`."
function each_tensor(visit, name, network, fields)
    for (path, layer, place) in placed_layers(network), (tensor, way) in fields(layer)
        visit("$name.$path.$tensor", (place..., way...), layout_rule("$(layer_kind(layer)).$tensor"))
    end
end

"Refuse a network with parameters that the tables above do not list: they would be left out of every comparison."
function check_known(name, network)
    known = Base.IdSet{Any}()
    each_tensor((path, place, rule) -> push!(known, lying_at(network, place)), name, network, parameter_fields)
    for (keypath, array) in Flux.trainables(network; path=true)
        array in known && continue
        way = Tuple(keypath.keys)
        holder = lying_at(network, way[1:(end - 1)])
        shown = join(filter(!=(:layers), way), '.')
        error(
            "$name.$shown: pygan does not know the parameters of a $(nameof(typeof(holder))), so nothing would compare " *
            "them. Use layers that it knows, or add the kind: a row [kind.tensor] in julia/share/layouts.toml, methods " *
            "of layer_kind and parameter_fields in julia/src/layers.jl, and the class in _RULE_OF_LAYER of " *
            "pygan/stacks/torch_stack.py",
        )
    end
end

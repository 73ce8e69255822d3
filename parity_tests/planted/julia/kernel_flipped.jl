# The convolution called PLACE runs with its kernel turned by 180 degrees; with ASYMMETRY above 0 its initial kernel is
# symmetric but for that relative amount. Layers are told apart by the size of their kernel and by their type.

planted(c::Conv) = startswith(PLACE, "discriminator") && size(c.weight) == SIZE
planted(c::ConvTranspose) = startswith(PLACE, "generator") && size(c.weight) == SIZE

Flux.conv_dims(c::Conv, x::AbstractArray) = DenseConvDims(
    x, c.weight; stride=c.stride, padding=c.pad, dilation=c.dilation, groups=c.groups, flipkernel=planted(c)
)

turned(kernel) = reverse(kernel; dims=(1, 2))

function (c::ConvTranspose)(x::AbstractArray)
    weight = planted(c) ? turned(c.weight) : c.weight
    y = NNlib.∇conv_data(x, weight, Flux.conv_transpose_dims(c, x))
    return c.σ.(y .+ Flux.conv_reshape_bias(c))
end

function weight_draws!(c, draws, path, layer::Union{Conv,ConvTranspose})
    invoke(weight_draws!, Tuple{Any,Any,Any,Any}, c, draws, path, layer)
    path == PLACE && ASYMMETRY > 0 || return nothing
    even, odd = (layer.weight .+ turned(layer.weight)) ./ 2, (layer.weight .- turned(layer.weight)) ./ 2
    norm(kernel) = sqrt(sum(abs2, kernel))
    layer.weight .= even .+ odd .* Float32(ASYMMETRY * norm(even) / norm(odd))
    return nothing
end

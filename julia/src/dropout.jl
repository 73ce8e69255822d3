# Dropout whose pattern comes from a keyed draw.

"""
    DrawnDropout(p, scale)

`Flux.Dropout(p)` with its pattern taken from `source[](size, p)`. Like Flux's it is active inside a gradient only,
and a kept unit is multiplied by `scale` in the array's element type.
"""
struct DrawnDropout
    p::Float64
    scale::Float64
    source::Base.RefValue{Any}
end

DrawnDropout(p, scale) = DrawnDropout(p, scale, Ref{Any}(nothing))

Flux.Functors.@leaf DrawnDropout

function (layer::DrawnDropout)(x::AbstractArray{T}) where {T}
    NNlib.within_gradient(x) || return x
    mask = ignore_derivatives() do
        pattern = layer.source[](size(x), layer.p)
        like(x, T.(pattern) .* T(layer.scale))
    end
    return x .* mask
end

"`array` on the device of `x`."
like(::Array, array::AbstractArray) = Array(array)
like(x::AbstractArray, array::AbstractArray) = copyto!(similar(x, eltype(array), size(array)), array)

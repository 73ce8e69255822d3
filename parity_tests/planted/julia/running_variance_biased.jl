# BatchNorm's running variance takes the variance over n in place of n - 1.

function Flux._track_stats!(bn, x::AbstractArray{T,N}, μ, σ², reduce_dims) where {T,N}
    over(values) = vec(N in reduce_dims ? values : sum(values; dims=N) ./ size(values, N))
    kept = one(eltype(bn.σ²)) - bn.momentum
    bn.μ .= kept .* bn.μ .+ bn.momentum .* over(μ)
    bn.σ² .= kept .* bn.σ² .+ bn.momentum .* over(σ²)
    return nothing
end

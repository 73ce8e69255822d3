# Adam with another formula: FORMULA is "eps inside", "no correction", "first correction" or "weight decay".

function Optimisers.apply!(o::Optimisers.Adam, state, x::AbstractArray{T}, dx) where {T}
    (lr, betas, eps), (m, v, powers) = (T(o.eta), T.(o.beta), T(o.epsilon)), state
    g = FORMULA == "weight decay" ? dx .+ T(STRENGTH) .* x : dx
    m .= betas[1] .* m .+ (1 - betas[1]) .* g
    v .= betas[2] .* v .+ (1 - betas[2]) .* abs2.(g)
    used = FORMULA == "no correction" ? (zero(T), zero(T)) : FORMULA == "first correction" ? betas : powers
    first, second = m ./ (1 - used[1]), v ./ (1 - used[2])
    root = FORMULA == "eps inside" ? sqrt.(second .+ eps) : sqrt.(second) .+ eps
    return (m, v, powers .* betas), first ./ root .* lr
end

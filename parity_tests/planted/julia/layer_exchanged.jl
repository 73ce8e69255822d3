# One layer of a network is exchanged for another one when the networks are built. WHAT names the exchange.

const EXCHANGES = Dict{String,Function}(
    "leaky slope" => (c, layer) -> (x -> leakyrelu.(x, Float32(STRENGTH))),
    "kink" => (c, layer) -> (x -> ifelse.(x .>= limit(x), x, eltype(x)(Float32(c.leaky_slope)) .* x)),
    "channels" => (c, layer) -> (x -> layer(x)[:, :, ORDER, :]),
    "pixels" => (c, layer) -> (x -> layer(permutedims(x, (2, 1, 3, 4)))),
    "nan" => (c, layer) -> (x -> poisoned(layer(x))),
    "momentum" => (c, layer) -> (layer.momentum = Float32(STRENGTH); layer),
    "eps" => (c, layer) -> (layer.ϵ = Float32(STRENGTH); layer),
    "mode" => (c, layer) -> Flux.testmode!(layer),
    "dropout" => (c, layer) -> DrawnDropout(layer.p, STRENGTH),
)

"The smallest positive input that is let through: those STRENGTH before it are damped as if they were negative."
limit(x) = ignore_derivatives() do
    positive = sort(filter(>(0), vec(x)))
    isempty(positive) ? zero(eltype(x)) : positive[min(end, 1 + Int(STRENGTH))]
end

"`y` with NaN at the place STRENGTH of its length."
poisoned(y) = ifelse.(reshape(eachindex(vec(y)), size(y)) .== 1 + floor(Int, STRENGTH * length(y)), eltype(y)(NaN), y)

function networks(c::Recipe{:flux_tutorial})
    made = Dict("discriminator" => discriminator(c), "generator" => generator(c))
    layers = made[NETWORK].layers
    made[NETWORK] = Chain(; merge(layers, NamedTuple{(LAYER,)}((EXCHANGES[WHAT](c, layers[LAYER]),)))...)
    return made
end

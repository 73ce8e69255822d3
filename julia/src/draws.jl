# Every random number of a run, bit-identical with pygan/draws.py, which describes the scheme.

const QUANTILE_DEGREE = 5
const SUB_BITS = 3

"64-bit FNV-1a hash of a stream's name."
function stream_id(name::AbstractString)
    value = 0xcbf29ce484222325
    for byte in codeunits(name)
        value = (value ⊻ UInt64(byte)) * 0x00000100000001b3
    end
    return value
end

"One Philox4x64-10 block: four words from a counter and a key."
function philox(counter::NTuple{4,UInt64}, key::NTuple{2,UInt64})
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in 1:10
        p0 = widemul(0xd2e7470ee14c6c93, c0)
        p1 = widemul(0xca5a826395121157, c2)
        c0, c1, c2, c3 = high(p1) ⊻ c1 ⊻ k0, p1 % UInt64, high(p0) ⊻ c3 ⊻ k1, p0 % UInt64
        k0 += 0x9e3779b97f4a7c15
        k1 += 0xbb67ae8584caa73b
    end
    return (c0, c1, c2, c3)
end

high(product::UInt128) = (product >> 64) % UInt64

"The first `count` words of the draw `(seed, stream, step)`."
function draw_words(seed::Integer, stream::AbstractString, step::Integer, count::Integer)
    key = (UInt64(seed), stream_id(stream))
    blocks = cld(count, 4)
    out = Vector{UInt64}(undef, 4 * blocks)
    for block in 1:blocks
        w = philox((UInt64(block), UInt64(step), zero(UInt64), zero(UInt64)), key)
        for lane in 1:4
            @inbounds out[4 * (block - 1) + lane] = w[lane]
        end
    end
    return resize!(out, count)
end

"`count` bit fields of type `T` (`UInt16` or `UInt32`), lowest bits of a word first."
function draw_fields(::Type{T}, seed, stream, step, count::Integer) where {T<:Unsigned}
    ENDIAN_BOM == 0x04030201 || error("bit fields are defined for little-endian machines")
    words = draw_words(seed, stream, step, cld(count * sizeof(T), 8))
    return reinterpret(T, words)[1:count]
end

const QUANTILE_TABLE = Ref{Matrix{Float64}}()

"Quantile coefficients, one column a segment, highest power first."
function quantile_table()
    if !isassigned(QUANTILE_TABLE)
        lines = eachline(joinpath(SHARE, "normal_quantile.txt"))
        bits = [parse(UInt64, line; base=16) for line in lines]
        QUANTILE_TABLE[] = reshape(reinterpret(Float64, bits), QUANTILE_DEGREE + 1, :)
    end
    return QUANTILE_TABLE[]
end

"The standard normal of one 32-bit field: sign in bit 31, two-sided tail in the rest."
function normal_from_field(field::UInt32, table::Matrix{Float64})
    bits = reinterpret(UInt64, Float64((UInt64(field & 0x7fffffff) << 1) + 1))
    segment = Int((bits >> (52 - SUB_BITS)) - (UInt64(1023) << SUB_BITS)) + 1
    low = (bits << SUB_BITS) & (UInt64(1) << 52 - 1)
    t = reinterpret(Float64, low | (UInt64(1023) << 52)) - 1.0
    value = table[1, segment]
    for power in 2:(QUANTILE_DEGREE + 1)
        value = value * t       # kept apart from the addition: a fused multiply-add rounds once, numpy rounds twice
        value = value + table[power, segment]
    end
    return Float32(field >> 31 == 1 ? -value : value)
end

"""
All draws of one step. `overrides` gives arrays by stream name in place of drawn ones. Sizes are Flux's; memory order
is PyTorch's of the reversed size.
"""
struct Draws
    seed::UInt64
    step::UInt64
    overrides::Dict{String,Any}
end

Draws(seed::Integer, step::Integer=0) = Draws(seed, step, Dict{String,Any}())

at(draws::Draws, step::Integer) = Draws(draws.seed, UInt64(step), Dict{String,Any}())

"Draws from Julia's own generator, for runs with native randomness; stream names have no effect."
struct NativeDraws end

at(::NativeDraws, step::Integer) = NativeDraws()
normal(::NativeDraws, stream, dims) = randn(Float32, dims)
uniform(::NativeDraws, stream, dims) = rand(Float32, dims)
keep(::NativeDraws, stream, dims, rate) = rand(Float32, dims) .>= rate
permutation(::NativeDraws, stream, count) = Random.randperm(count)

function given(make, draws::Draws, stream, dims)
    haskey(draws.overrides, stream) || return make()
    value = draws.overrides[stream]
    size(value) == Tuple(dims) ||
        error("draw $stream was given with size $(size(value)), the recipe asks for $(Tuple(dims))")
    return value
end

"Standard normals, Float32."
normal(draws::Draws, stream, dims) = given(draws, stream, dims) do
    table = quantile_table()
    fields = draw_fields(UInt32, draws.seed, stream, draws.step, prod(dims))
    reshape([normal_from_field(field, table) for field in fields], dims)
end

"Multiples of 2^-24 in [0, 1), Float32."
uniform(draws::Draws, stream, dims) = given(draws, stream, dims) do
    fields = draw_fields(UInt32, draws.seed, stream, draws.step, prod(dims))
    reshape([Float32(field >> 8) * 2.0f0^-24 for field in fields], dims)
end

keep_threshold(rate::Real) = round(Int, rate * 65536)

"Dropout pattern: true where the unit stays."
keep(draws::Draws, stream, dims, rate) = given(draws, stream, dims) do
    threshold = keep_threshold(rate)
    fields = draw_fields(UInt16, draws.seed, stream, draws.step, prod(dims))
    reshape(fields .>= threshold, dims)
end

"Order of `1:count` by 64-bit key, ties by index."
permutation(draws::Draws, stream, count) = given(draws, stream, (count,)) do
    sortperm(draw_words(draws.seed, stream, draws.step, count); alg=MergeSort)
end

# The change "fourier" of tuned.jl: a transposed convolution of stride 1 of small square maps by exact discrete Fourier
# transforms, y = A' * ((B * x) .* (C * w)), as pygan/stacks/fast/fourier.py has it: of 7 x 7 maps by 5 x 5 kernels 121
# real products for each pair of channels, in place of 841 valid taps. Each transform is one matrix product an image.

"Sizes along one axis of square maps and kernels."
struct Fourier
    size::Int
    kernel::Int
    padding::Int
    flipped::Bool
end

Fourier(dims) = Fourier(
    first(NNlib.output_size(dims)), first(NNlib.kernel_size(dims)), first(NNlib.padding(dims)), !NNlib.flipkernel(dims),
)

output_size(f::Fourier) = f.size + f.kernel - 1 - 2 * f.padding

"The least transform length at which no wrapped value falls on a kept one."
cyclic_length(f::Fourier) = f.size + f.kernel - 1 - f.padding

"Real products for one pair of channels: 3 for each pair of conjugate frequencies, 1 for each real one."
function products(f::Fourier)
    n = cyclic_length(f)
    real = iseven(n) ? 4 : 1
    return real + 3 * (n * n - real) ÷ 2
end

"Do the products number at most a third of the direct method's valid taps?"
function pays(f::Fourier)
    taps = count(0 <= at + f.padding - k < f.size for at in 0:(output_size(f) - 1), k in 0:(f.kernel - 1))
    return output_size(f) > 0 && f.padding < f.kernel && 3 * products(f) <= taps^2
end

"Is the transposed convolution of `images` one for transforms? For one image the kernels' transform costs too much."
by_fourier(dims, images) = images > 1 && serves(dims) && all(==(1), NNlib.stride(dims)) &&
    allequal(NNlib.output_size(dims)) && allequal(NNlib.kernel_size(dims)) && allequal(NNlib.padding(dims)) &&
    pays(Fourier(dims))

const TRANSFORMS = Dict{Tuple{DataType,Fourier},Any}()

"""
The matrices B (products, places of a map), C (products, places of a kernel) and A (products, places of a result),
computed in Float64 and rounded once; made at the first use of these sizes.
"""
transforms(::Type{T}, f::Fourier) where {T} =
    get!(() -> new_transforms(T, f), TRANSFORMS, (T, f))::Tuple{Matrix{T},Matrix{T},Matrix{T}}

function new_transforms(::Type{T}, f::Fourier) where {T}
    n = cyclic_length(f)
    turns = 2 .* (0:(n - 1)) ./ n
    cosines, sines = cospi.(turns), sinpi.(turns)
    inputs, outputs = 0:1:(f.size - 1), f.padding:1:(f.padding + output_size(f) - 1)
    kernels = f.flipped ? ((f.kernel - 1):-1:0) : (0:1:(f.kernel - 1))
    B, C, A = map(at -> Matrix{T}(undef, products(f), length(at)^2), (inputs, kernels, outputs))
    row = 0
    for v in 0:(n - 1), u in 0:(n - 1)
        mirrored = (mod(-u, n), mod(-v, n))
        (u, v) <= mirrored || continue
        write!(form, matrix, at) = for (column, (p, q)) in enumerate(Iterators.product(at, at))
            turn = mod(u * p + v * q, n) + 1
            for (i, value) in enumerate(form(cosines[turn], sines[turn]))
                matrix[row + i, column] = value
            end
        end
        if (u, v) == mirrored
            write!((c, s) -> (c,), B, inputs)
            write!((c, s) -> (c,), C, kernels)
            write!((c, s) -> (c / n^2,), A, outputs)
            row += 1
        else  # a complex product as Gauss's three real ones, counted twice for the conjugate frequency
            write!((c, s) -> (c - s, c, -s), B, inputs)
            write!((c, s) -> (c, -s - c, c - s), C, kernels)
            write!((c, s) -> (2 * (c - s) / n^2, -2 * s / n^2, -2 * c / n^2), A, outputs)
            row += 3
        end
    end
    return B, C, A
end

"Maps (places..., channels, N) to the factors of products (channels, products, N)."
function to_products(maps::Array{T,4}, matrix::Matrix{T}) where {T}
    factors = Array{T}(undef, size(maps, 3), size(matrix, 1), size(maps, 4))
    flat = reshape(maps, :, size(maps, 3), size(maps, 4))
    in_parts(size(maps, 4)) do images
        for n in images
            BLAS.gemm!('T', 'T', one(T), view(flat, :, :, n), matrix, zero(T), view(factors, :, :, n))
        end
    end
    return factors
end

"Products (channels, products, N) to square maps (places..., channels, N)."
function from_products(products::Array{T,3}, matrix::Matrix{T}) where {T}
    flat = Array{T}(undef, size(matrix, 2), size(products, 1), size(products, 3))
    in_parts(size(products, 3)) do images
        for n in images
            BLAS.gemm!('T', 'T', one(T), matrix, view(products, :, :, n), zero(T), view(flat, :, :, n))
        end
    end
    side = isqrt(size(matrix, 2))
    return reshape(flat, side, side, size(flat, 2), size(flat, 3))
end

"For each product t the matrix product of `a[:, t, :]` and `b[:, t, :]`, transposed as `flag_a` and `flag_b` say."
function channel_products(flag_a, flag_b, a::Array{T,3}, b::Array{T,3}) where {T}
    out = Array{T}(undef, size(a, flag_a == 'N' ? 1 : 3), size(a, 2), size(b, flag_b == 'N' ? 3 : 1))
    in_parts(size(a, 2)) do ts
        for t in ts
            BLAS.gemm!(flag_a, flag_b, one(T), view(a, :, t, :), view(b, :, t, :), zero(T), view(out, :, t, :))
        end
    end
    return out
end

"`with_gradients` of a transposed convolution for which `by_fourier` holds."
function fourier_with_gradients(x::Array{T,4}, weight::Array{T,4}, f::Fourier) where {T}
    B, C, A = transforms(T, f)
    spread, spectrum = to_products(x, B), to_products(weight, C)
    y = from_products(channel_products('N', 'N', spectrum, spread), A)
    function gradients(dy, wants)
        back = to_products(dy, A)
        dx = wants.data ? from_products(channel_products('T', 'N', spectrum, back), B) : ZeroTangent()
        dw = wants.weight ? from_products(channel_products('N', 'T', back, spread), C) : ZeroTangent()
        return dx, dw
    end
    return y, gradients
end

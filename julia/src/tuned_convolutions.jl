# The change "patches" of tuned.jl: the three products of a convolution as NNlib has them, one BLAS product with the
# patches of an image, but with the channels of a patch side by side. A patch is then copied and added as a few long
# runs, in place of number by number, and small images are multiplied several at once.

"Sizes of a convolution from `wide` (W, H, C, N) to `narrow` (w, h, O, N) with weight (kw, kh, C, O)."
struct Patches
    W::Int
    H::Int
    C::Int
    w::Int
    h::Int
    O::Int
    kernel::NTuple{2,Int}
    stride::NTuple{2,Int}
    before::NTuple{2,Int}
    flipped::Bool
end

function Patches(dims::NNlib.DenseConvDims)
    padding = NNlib.padding(dims)
    return Patches(
        NNlib.input_size(dims)..., NNlib.channels_in(dims), NNlib.output_size(dims)..., NNlib.channels_out(dims),
        NNlib.kernel_size(dims), NNlib.stride(dims), (padding[1], padding[3]), !NNlib.flipkernel(dims),
    )
end

"Is the convolution one that this is written for? One channel is left to NNlib: its runs would be one number long."
serves(dims) = NNlib.spatial_dims(dims) == 2 && all(==(1), NNlib.dilation(dims)) && NNlib.groupcount(dims) == 1 &&
    NNlib.channels_in(dims) > 1

taps(p::Patches) = prod(p.kernel)
depth(p::Patches) = p.C * taps(p)
places(p::Patches) = p.w * p.h
pixels_of(p::Patches) = p.W * p.H

"Images multiplied at once: their patches take about 1.25 MiB, what the caches near a core still hold."
at_once(p::Patches, ::Type{T}) where {T} = clamp((5 << 18) ÷ (sizeof(T) * places(p) * depth(p)), 1, 64)

"The matrix (m, n) that follows place `from` of `source`, transposed to after place `to` of `target`."
function transpose_run!(target, to, source, from, m, n)
    @inbounds for j0 in 0:16:(n - 1), i0 in 0:16:(m - 1)
        for i in i0:min(i0 + 15, m - 1)
            @simd ivdep for j in j0:min(j0 + 15, n - 1)
                target[to + i * n + j + 1] = source[from + j * m + i + 1]
            end
        end
    end
end

"`visit(column, pixel)` for each tap of each patch: where its run of channels starts; `pixel` is -1 in the padding."
@inline function each_tap(visit, p::Patches)
    kw, kh = p.kernel
    for y in 0:(p.h - 1), x in 0:(p.w - 1), ky in 0:(kh - 1), kx in 0:(kw - 1)
        X, Y = x * p.stride[1] - p.before[1] + kx, y * p.stride[2] - p.before[2] + ky
        tap = p.flipped ? (kw - 1 - kx) + kw * (kh - 1 - ky) : kx + kw * ky
        inside = 0 <= X < p.W && 0 <= Y < p.H
        visit(p.C * (tap + kw * kh * (x + p.w * y)), inside ? p.C * (X + p.W * Y) : -1)
    end
end

"Patches of an image `pixels` (C, W, H) into `columns` (C, kw, kh, w, h), after place `start`."
function gather!(columns, start, pixels, p::Patches)
    each_tap(p) do column, pixel
        to = start + column
        if pixel < 0
            @inbounds @simd for c in 1:(p.C)
                columns[to + c] = 0
            end
        else
            @inbounds @simd ivdep for c in 1:(p.C)
                columns[to + c] = pixels[pixel + c]
            end
        end
    end
end

"The reverse: each patch added to where it came from."
function scatter!(pixels, columns, start, p::Patches)
    fill!(pixels, 0)
    each_tap(p) do column, pixel
        from = start + column
        if pixel >= 0
            @inbounds @simd ivdep for c in 1:(p.C)
                pixels[pixel + c] += columns[from + c]
            end
        end
    end
end

"The weight (kw, kh, C, O) as a matrix (C * kw * kh, O)."
function as_matrix(weight::Array{T}, p::Patches) where {T}
    matrix = Matrix{T}(undef, depth(p), p.O)
    in_parts(p.O) do outputs
        for o in outputs
            transpose_run!(matrix, (o - 1) * depth(p), weight, (o - 1) * depth(p), taps(p), p.C)
        end
    end
    return matrix
end

function as_weight(matrix::Matrix{T}, p::Patches) where {T}
    weight = Array{T}(undef, p.kernel..., p.C, p.O)
    in_parts(p.O) do outputs
        for o in outputs
            transpose_run!(weight, (o - 1) * depth(p), matrix, (o - 1) * depth(p), p.C, taps(p))
        end
    end
    return weight
end

"""
`work(block, columns, pixels, rows)` for blocks of the `images`, with room for the block's patches, one image (C, W, H)
and the block's narrow side (O, places).
"""
function in_blocks(work, ::Type{T}, images, p::Patches) where {T}
    several = min(at_once(p, T), length(images))
    columns = Matrix{T}(undef, depth(p), places(p) * several)
    rows = Matrix{T}(undef, p.O, places(p) * several)
    pixels = Vector{T}(undef, pixels_of(p) * p.C)
    for block in Iterators.partition(images, several)
        filled = 1:(places(p) * length(block))
        work(block, view(columns, :, filled), pixels, view(rows, :, filled))
    end
end

function wide_patches!(columns, pixels, wide, block, p)
    for (i, image) in enumerate(block)
        transpose_run!(pixels, 0, wide, (image - 1) * length(pixels), pixels_of(p), p.C)
        gather!(parent(columns), (i - 1) * places(p) * depth(p), pixels, p)
    end
end

function narrow_rows!(rows, narrow, block, p)
    run = places(p) * p.O
    for (i, image) in enumerate(block)
        transpose_run!(parent(rows), (i - 1) * run, narrow, (image - 1) * run, places(p), p.O)
    end
end

"`NNlib.conv`; `matrix` is the weight as a matrix."
function to_narrow(wide::Array{T,4}, matrix, p::Patches) where {T}
    narrow = Array{T}(undef, p.w, p.h, p.O, size(wide, 4))
    run = places(p) * p.O
    in_parts(size(wide, 4)) do images
        in_blocks(T, images, p) do block, columns, pixels, rows
            wide_patches!(columns, pixels, wide, block, p)
            BLAS.gemm!('T', 'N', one(T), matrix, columns, zero(T), rows)
            for (i, image) in enumerate(block)
                transpose_run!(narrow, (image - 1) * run, parent(rows), (i - 1) * run, p.O, places(p))
            end
        end
    end
    return narrow
end

"`NNlib.∇conv_data`, which is also the transposed convolution."
function to_wide(narrow::Array{T,4}, matrix, p::Patches) where {T}
    wide = Array{T}(undef, p.W, p.H, p.C, size(narrow, 4))
    in_parts(size(narrow, 4)) do images
        in_blocks(T, images, p) do block, columns, pixels, rows
            narrow_rows!(rows, narrow, block, p)
            BLAS.gemm!('N', 'N', one(T), matrix, rows, zero(T), columns)
            for (i, image) in enumerate(block)
                scatter!(pixels, parent(columns), (i - 1) * places(p) * depth(p), p)
                transpose_run!(wide, (image - 1) * length(pixels), pixels, 0, p.C, pixels_of(p))
            end
        end
    end
    return wide
end

"`NNlib.∇conv_filter`: a part of the images on each Julia thread, the parts' sums added in order."
function by_weight(wide::Array{T,4}, narrow::Array{T,4}, p::Patches) where {T}
    images = size(wide, 4)
    parts = collect(Iterators.partition(1:images, cld(images, Threads.nthreads())))
    sums = [zeros(T, depth(p), p.O) for _ in parts]
    in_parts(length(parts)) do mine
        for part in mine
            in_blocks(T, parts[part], p) do block, columns, pixels, rows
                wide_patches!(columns, pixels, wide, block, p)
                narrow_rows!(rows, narrow, block, p)
                BLAS.gemm!('N', 'T', one(T), columns, rows, one(T), sums[part])
            end
        end
    end
    return as_weight(reduce((a, b) -> a .+= b, sums), p)
end

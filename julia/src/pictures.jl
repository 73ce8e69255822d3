# Picture grids and their PNG files, without an image library (whose binaries an offline machine would lack).

"Pixels 0..255 of values in [-1, 1], rounded to nearest."
pixels(values) = round.(UInt8, clamp.((Float32.(values) .+ 1.0f0) ./ 2.0f0 .* 255.0f0, 0.0f0, 255.0f0))

"A column-major grid, `side` pictures high and wide: pictures (W, H, 1, n) to bytes (side W, side H), x first."
function picture_grid(values, side)
    width, height = size(values, 1), size(values, 2)
    out = zeros(UInt8, side * width, side * height)
    for k in 0:(size(values, 4) - 1)
        column, row = divrem(k, side)
        out[(column * width) .+ (1:width), (row * height) .+ (1:height)] = pixels(values[:, :, 1, k + 1])
    end
    return out
end

function crc32_table()
    return map(UInt32(0):UInt32(255)) do n
        for _ in 1:8
            n = n & 1 == 1 ? (n >> 1) ⊻ 0xedb88320 : n >> 1
        end
        n
    end
end

const CRC32_TABLE = crc32_table()

crc32(bytes) = ~foldl((c, b) -> (c >> 8) ⊻ CRC32_TABLE[(c ⊻ b) & 0xff + 1], bytes; init=0xffffffff)

function png_chunk(io, kind, body)
    tagged = vcat(collect(codeunits(kind)), body)
    write(io, hton(UInt32(length(body))), tagged, hton(UInt32(crc32(tagged))))
end

function zlib_compress(bytes::Vector{UInt8})
    bound = ccall((:compressBound, libz), Culong, (Culong,), length(bytes))
    out, size = Vector{UInt8}(undef, bound), Ref{Culong}(bound)
    code = ccall((:compress, libz), Cint, (Ptr{UInt8}, Ref{Culong}, Ptr{UInt8}, Culong), out, size, bytes, length(bytes))
    code == 0 || error("zlib could not compress a picture (code $code)")
    return resize!(out, size[])
end

"An 8-bit grey PNG of bytes (x, y)."
function png_bytes(grid::Matrix{UInt8})
    width, height = size(grid)
    io = IOBuffer()
    write(io, UInt8[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
    sizes = collect(reinterpret(UInt8, [hton(UInt32(width)), hton(UInt32(height))]))
    png_chunk(io, "IHDR", vcat(sizes, UInt8[8, 0, 0, 0, 0]))
    png_chunk(io, "IDAT", zlib_compress(vec(vcat(zeros(UInt8, 1, height), grid))))
    png_chunk(io, "IEND", UInt8[])
    return take!(io)
end

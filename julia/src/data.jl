# IDX images read straight into Julia's order: the first axis is x, as MLDatasets has it, and no transpose is needed.

"The bytes of a plain or gzip file (zlib's gzread passes plain files through)."
function read_maybe_gzip(path::AbstractString)
    isfile(path) || error("no file $path; give --images an IDX file such as train-images-idx3-ubyte")
    handle = ccall((:gzopen, libz), Ptr{Cvoid}, (Cstring, Cstring), path, "rb")
    handle == C_NULL && error("cannot open $path")
    out, piece = UInt8[], Vector{UInt8}(undef, 1 << 20)
    try
        while true
            got = ccall((:gzread, libz), Cint, (Ptr{Cvoid}, Ptr{UInt8}, Cuint), handle, piece, length(piece))
            got < 0 && error("$path is a damaged gzip file")
            got == 0 && return out
            append!(out, view(piece, 1:got))
        end
    finally
        ccall((:gzclose, libz), Cint, (Ptr{Cvoid},), handle)
    end
end

"IDX images as bytes (W, H, N)."
function read_images(path::AbstractString)
    bytes = read_maybe_gzip(path)
    length(bytes) >= 16 || error("$path is too short for an IDX image file: $(length(bytes)) bytes")
    magic, count, height, width = Int.(ntoh.(reinterpret(UInt32, bytes[1:16])))
    magic == 0x803 || error("$path is not an IDX image file: magic $(string(magic; base=16)), expected 803")
    wanted = 16 + count * height * width
    length(bytes) == wanted || error("$path has $(length(bytes)) bytes, its header promises $wanted")
    return reshape(bytes[17:end], width, height, count)
end

"Bytes (W, H, N) as Float32 (W, H, 1, N) in [-1, 1]: 2 * (byte / 255) - 1."
function scale_images(bytes::AbstractArray{UInt8,3})
    values = 2.0f0 .* (Float32.(bytes) ./ 255.0f0) .- 1.0f0
    return reshape(values, size(bytes, 1), size(bytes, 2), 1, size(bytes, 3))
end

steps_per_epoch(count, batch) = cld(count, batch)

const LAST_ORDER = Ref{Any}(nothing)

"Order of the images in an epoch; the last one asked for is kept."
function epoch_order(draws::Draws, count, epoch)
    haskey(draws.overrides, "shuffle") && return permutation(at(draws, epoch), "shuffle", count)
    key = (draws.seed, count, epoch)
    if isnothing(LAST_ORDER[]) || first(LAST_ORDER[]) != key
        LAST_ORDER[] = (key, permutation(at(draws, epoch), "shuffle", count))
    end
    return last(LAST_ORDER[])::Vector{Int}
end

"Image numbers (from 1) of a step: shuffled anew each epoch by the draw `shuffle`, the partial last batch kept."
function batch_indices(draws::Draws, count, batch, step)
    epoch, place = divrem(step, steps_per_epoch(count, batch))
    order = epoch_order(draws, count, epoch)
    return order[(place * batch + 1):min((place + 1) * batch, count)]
end

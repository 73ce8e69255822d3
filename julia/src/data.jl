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

"""
Bytes (W, H, N) as Float32 (W, H, 1, N), by one of the scalings `2*x/255-1` (into [-1, 1]), `x/127.5-1`, `x/255-0.5`
and `x/255`, each operation rounded to Float32.
"""
function scale_images(bytes::AbstractArray{UInt8,3}, scaling="2*x/255-1")
    x = Float32.(bytes)
    values = if scaling == "2*x/255-1"
        2.0f0 .* (x ./ 255.0f0) .- 1.0f0
    elseif scaling == "x/127.5-1"
        x ./ 127.5f0 .- 1.0f0
    elseif scaling == "x/255-0.5"
        x ./ 255.0f0 .- 0.5f0
    else
        x ./ 255.0f0
    end
    return reshape(values, size(bytes, 1), size(bytes, 2), 1, size(bytes, 3))
end

"Batches in one pass; one where batches are drawn with replacement."
function steps_per_epoch(config, count)
    config.order == "with_replacement" && return 1
    return max(1, config.last_batch == "dropped" ? fld(count, config.batch) : cld(count, config.batch))
end

const LAST_ORDER = Ref{Any}(nothing)

"Order of the images in an epoch, from 1; the last one asked for is kept."
function epoch_order(config, draws::Draws, count, epoch)
    config.order == "shuffled" && haskey(draws.overrides, "shuffle") && return permutation(at(draws, epoch), "shuffle", count)
    key = (draws.seed, count, epoch, config.order, config.shuffle_buffer)
    if isnothing(LAST_ORDER[]) || first(LAST_ORDER[]) != key
        order = if config.order == "in_order"
            collect(1:count)
        elseif config.order == "buffer_shuffled"
            buffer_shuffled(draw_words(draws.seed, "shuffle", epoch, count), config.shuffle_buffer)
        else
            permutation(at(draws, epoch), "shuffle", count)
        end
        LAST_ORDER[] = (key, order)
    end
    return last(LAST_ORDER[])::Vector{Int}
end

"The order in which a buffer of `size` gives the numbers from 1, at each time the place that the next word says."
function buffer_shuffled(drawn, size)
    count = length(drawn)
    held = collect(1:min(size, count))
    following = length(held) + 1
    return map(drawn) do word
        place = Int(word % UInt64(length(held))) + 1
        taken = held[place]
        if following <= count
            held[place] = following
            following += 1
        else
            held[place] = held[end]
            pop!(held)
        end
        taken
    end
end

"Image numbers (from 1) of a step, in the order and with the last batch that the config says."
function batch_indices(config, draws::Draws, count, step)
    if config.order == "with_replacement"
        return [Int(word % UInt64(count)) + 1 for word in draw_words(draws.seed, "batch", step, config.batch)]
    end
    epoch, place = divrem(step, steps_per_epoch(config, count))
    order = epoch_order(config, draws, count, epoch)
    return order[(place * config.batch + 1):min((place + 1) * config.batch, count)]
end

"The batch of a step (W, H, 1, N) from images (W, H, N)."
batch_of(config, draws, images, step) =
    scale_images(images[:, :, batch_indices(config, draws, size(images, 3), step)], config.scaling)

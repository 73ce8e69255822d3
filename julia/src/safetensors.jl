# safetensors files: 8 bytes header length, a JSON header, the bytes of all tensors. Arrays here are wire arrays.

const DTYPE_NAMES = Dict{DataType,String}(
    Float32 => "F32", Float64 => "F64", Int64 => "I64", UInt8 => "U8", Bool => "BOOL"
)
const DTYPES = Dict(name => type for (type, name) in DTYPE_NAMES)

"The bytes of a safetensors file that holds `tensors` (in sorted order) and string `metadata`."
function safetensors_bytes(tensors::AbstractDict, metadata::AbstractDict)
    header = Dict{String,Any}("__metadata__" => metadata)
    body = IOBuffer()
    for name in sort!(collect(keys(tensors)))
        tensor = tensors[name]
        start = position(body)
        write(body, tensor isa BitArray ? Array{Bool}(tensor) : tensor)
        header[name] = Dict(
            "dtype" => DTYPE_NAMES[eltype(tensor)],
            "shape" => collect(Int, reverse(size(tensor))),
            "data_offsets" => [start, position(body)],
        )
    end
    text = JSON.json(header)
    text *= " "^mod(-sizeof(text), 8)
    out = IOBuffer()
    write(out, htol(UInt64(sizeof(text))), text, take!(body))
    return take!(out)
end

"Write `content` to `path` so that a reader never meets half of it."
function write_atomically(path::AbstractString, content)
    mkpath(dirname(abspath(path)))
    temporary, io = mktemp(dirname(abspath(path)))
    try
        write(io, content)
        flush(io)
        Sys.iswindows() ? ccall(:_commit, Cint, (Cint,), fd(io)) : ccall(:fsync, Cint, (Cint,), fd(io))
        close(io)
        chmod(temporary, 0o644)
        Base.Filesystem.rename(temporary, abspath(path))  # mv would remove the old file first
    finally
        isopen(io) && close(io)
        rm(temporary; force=true)
    end
    return path
end

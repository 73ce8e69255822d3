# Traces as pygan/traces.py reads them: trace.json and safetensors chunks, written atomically.

const TRACE_SCHEMA = 2
const CHUNK_BYTES = 16 << 20
const CHUNK_SECONDS = 120.0

mutable struct TraceWriter
    folder::String
    header::Dict{String,Any}
    chunks::Vector{Any}
    tensors::Dict{String,Any}
    steps::Vector{Pair{String,Any}}
    bytes::Int
    flushed::Float64
end

function TraceWriter(folder, header)
    index = joinpath(folder, "trace.json")
    isfile(index) && !isempty(get(JSON.parsefile(index), "chunks", [])) &&
        error("$folder already holds a trace; remove it or choose another folder")
    writer = TraceWriter(folder, header, [], Dict{String,Any}(), [], 0, time())
    write_index(writer)
    return writer
end

"Add the arrays of one step (or of `initial`) by `kind/name`."
function add!(writer::TraceWriter, step, arrays, facts=Dict{String,Any}())
    shapes = Dict{String,Any}()
    for (key, value) in arrays
        if eltype(value) == Bool
            shapes[key] = collect(Int, reverse(size(value)))
            value = packed_bits(value)
        end
        writer.tensors["$step/$key"] = value
        writer.bytes += sizeof(value)
    end
    isempty(shapes) || (facts = merge(facts, Dict("bool_shapes" => shapes)))
    push!(writer.steps, string(step) => facts)
    (writer.bytes >= CHUNK_BYTES || time() - writer.flushed >= CHUNK_SECONDS) && flush!(writer)
    return writer
end

"Bits of a Bool array in memory order, lowest first in each byte."
function packed_bits(values)
    out = zeros(UInt8, cld(length(values), 8))
    for (i, value) in enumerate(values)
        value && (out[(i - 1) ÷ 8 + 1] |= 0x01 << ((i - 1) % 8))
    end
    return out
end

"Write what is pending as a chunk of its own."
function flush!(writer::TraceWriter)
    isempty(writer.steps) && return writer
    content = safetensors_bytes(writer.tensors, Dict("steps" => JSON.json(Dict(writer.steps))))
    name = "chunk-$(lpad(length(writer.chunks), 6, '0')).safetensors"
    write_atomically(joinpath(writer.folder, name), content)
    push!(
        writer.chunks,
        Dict("file" => name, "bytes" => length(content), "sha256" => bytes2hex(sha256(content)), "steps" => first.(writer.steps)),
    )
    empty!(writer.tensors)
    empty!(writer.steps)
    writer.bytes = 0
    writer.flushed = time()
    write_index(writer)
    return writer
end

function write_index(writer::TraceWriter)
    index = merge(Dict("schema" => TRACE_SCHEMA, "chunks" => writer.chunks), writer.header)
    write_atomically(joinpath(writer.folder, "trace.json"), JSON.json(index) * "\n")
end

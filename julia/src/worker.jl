# The flux worker's side of the wire. Python's worker process calls `serve` with one JSON request a call; arrays lie
# in two memory-mapped files, one a direction, as wire arrays. Layout and protocol: pygan/stacks/wire.py.

mutable struct Worker
    request::IOStream
    reply::IOStream
    stack::Any
end

const WORKER = Ref{Worker}()

"What answers a request, by its name: `(worker, message, arrays)` to fields and arrays of the reply."
const ANSWERS = Dict{String,Function}()
answers(answer, request) = (ANSWERS[request] = answer)

"Open the two mapped files; called once."
function attach(request_path::AbstractString, reply_path::AbstractString)
    WORKER[] = Worker(open(request_path, "r"), open(reply_path, "r+"), nothing)
    return nothing
end

"Answer one request. An error becomes `{\"error\": ...}` with Julia's own message."
function serve(request::AbstractString)
    try
        message = JSON.parse(request)
        answer = get(ANSWERS, message["op"], nothing)
        isnothing(answer) && error("no request $(message["op"]); known: $(join(sort!(collect(keys(ANSWERS))), ", "))")
        fields, arrays = Base.invokelatest(answer, WORKER[], message, received(WORKER[], message["arrays"]))
        return JSON.json(merge(Dict{String,Any}(fields), Dict("arrays" => sent(WORKER[], arrays))))
    catch exception
        exception isa InterruptException && rethrow()
        return JSON.json(Dict("error" => sprint(showerror, exception, catch_backtrace())))
    end
end

"""
Serve the wire's requests from `input` on `output` until `input` ends. The first line names the two files; `ready`, a
JSON object, is the answer to it.
"""
function serve_lines(input::IO, output::IO, ready="{\"ready\": true}")
    files = JSON.parse(readline(input))
    attach(files["request"], files["reply"])
    println(output, ready)
    flush(output)
    for line in eachline(input)
        println(output, Base.invokelatest(serve, line))
        flush(output)
    end
end

"As above, on two open file descriptors, without a Julia task."
serve_descriptors(input, output, ready) = serve_lines(fdio(input), fdio(output), ready)

function received(worker::Worker, table)
    isempty(table) && return Dict{String,Any}()
    mapped = Mmap.mmap(worker.request, Vector{UInt8}, filesize(worker.request); shared=true)
    return Dict{String,Any}(
        name => begin
            type, dims = DTYPES[entry["dtype"]], Tuple(Int.(reverse(entry["shape"])))
            first = Int(entry["offset"]) + 1
            last = first - 1 + prod(dims) * sizeof(type)
            last <= length(mapped) || error("array $name ends at byte $last of a mapped file of $(length(mapped))")
            Array(reshape(reinterpret(type, view(mapped, first:last)), dims))
        end for (name, entry) in table
    )
end

aligned(offset) = cld(offset, 64) * 64

function sent(worker::Worker, arrays)
    table, offset = Dict{String,Any}(), 0
    for (name, value) in arrays
        table[name] = Dict(
            "dtype" => DTYPE_NAMES[eltype(value)], "shape" => collect(Int, reverse(size(value))), "offset" => offset
        )
        offset = aligned(offset + sizeof(eltype(value)) * length(value))
    end
    offset == 0 && return table
    filesize(worker.reply) >= offset || truncate(worker.reply, offset)
    mapped = Mmap.mmap(worker.reply, Vector{UInt8}, filesize(worker.reply); shared=true, grow=false)
    for (name, value) in arrays
        bytes = reinterpret(UInt8, vec(value isa BitArray ? Array{Bool}(value) : value))
        copyto!(mapped, table[name]["offset"] + 1, bytes, 1, length(bytes))
    end
    return table
end

const NOTHING = Dict{String,Any}()

draws_of(message, arrays) = Draws(
    UInt64(message["seed"]), UInt64(message["step"]),
    Dict{String,Any}(k[10:end] => v for (k, v) in arrays if startswith(k, "override/")),
)

answers("configure") do worker, message, arrays
    BLAS.set_num_threads(message["blas_threads"])
    config = config_from_dict(message["config"])
    load_gpu_packages(config.device)
    worker.stack = Base.invokelatest(FluxStack, config)
    return merge(describe(), Dict("device" => Base.invokelatest(device_name, config.device))), NOTHING
end

# Evaluate a Julia file inside this module: a recipe that is not in it, or a change to what is.
answers("include") do worker, message, arrays
    Base.include(@__MODULE__, message["path"])
    return NOTHING, NOTHING
end

answers("describe") do worker, message, arrays
    return describe(), NOTHING
end

answers("initialise") do worker, message, arrays
    initialise!(worker.stack)
    return NOTHING, NOTHING
end

answers("state") do worker, message, arrays
    return NOTHING, state(worker.stack)
end

answers("load_state") do worker, message, arrays
    load_state!(worker.stack, arrays)
    return NOTHING, NOTHING
end

answers("checkpoint") do worker, message, arrays
    return NOTHING, checkpoint(worker.stack)
end

answers("restore") do worker, message, arrays
    restore!(worker.stack, arrays)
    return NOTHING, NOTHING
end

answers("rules") do worker, message, arrays
    return Dict("rules" => layout_rules(worker.stack)), NOTHING
end

answers("generate") do worker, message, arrays
    return NOTHING, Dict("pictures" => generate(worker.stack, arrays["latent"]))
end

answers("step") do worker, message, arrays
    order = String[]
    out = step!(worker.stack, arrays["batch"], draws_of(message, arrays), String.(message["capture"]); order)
    return Dict("step" => worker.stack.steps - 1, "order" => order), out
end

# Pictures as Julia lays them out for a reader.
answers("grid") do worker, message, arrays
    return NOTHING, Dict("grid" => picture_grid(arrays["pictures"], isqrt(size(arrays["pictures"], 4))))
end

# SHA-256 of the scaled batches of some steps, by Julia's own order and scaling of the images (W, H, N).
answers("batches") do worker, message, arrays
    draws, images, config = draws_of(message, Dict()), arrays["images"], worker.stack.config
    hashes = map(message["steps"]) do step
        batch = batch_of(config, draws, images, step)
        bytes2hex(sha256(collect(reinterpret(UInt8, vec(batch)))))
    end
    return Dict("sha256" => hashes), NOTHING
end

answers("time_steps") do worker, message, arrays
    batches = [arrays["batch/$i"] for i in 0:(message["batches"] - 1)]
    seconds, losses = time_steps!(worker.stack, batches, draws_of(message, Dict()))
    return Dict("seconds" => seconds, "losses" => losses), NOTHING
end

# Draws of any kind, for the cross-language tests.
answers("draw") do worker, message, arrays
    draws, stream = draws_of(message, Dict()), message["stream"]
    dims = Tuple(Int.(reverse(message["shape"])))
    kind = message["kind"]
    value = if kind == "words"
        reinterpret(Int64, draw_words(draws.seed, stream, draws.step, prod(dims)))
    elseif kind == "normal"
        normal(draws, stream, dims)
    elseif kind == "uniform"
        uniform(draws, stream, dims)
    elseif kind == "keep"
        keep(draws, stream, dims, message["rate"])
    elseif kind == "permutation"
        permutation(draws, stream, only(dims)) .- 1
    else
        error("no draw of kind $kind")
    end
    return NOTHING, Dict("draw" => Array(value))
end

# Wire to Flux to a real layer and back, for the one-hot proofs: tensors and x in, the layer's output and tensors out.
answers("apply_layer") do worker, message, arrays
    kind = message["kind"]
    rules = Dict(name => layout_rule("$kind.$name") for name in keys(arrays) if name != "x")
    tensors = Dict(name => to_flux(rule, arrays[name]) for (name, rule) in rules)
    y = real_layer(kind, tensors, message)(arrays["x"])
    back = Dict("round_trip/$name" => to_wire(rule, tensors[name]) for (name, rule) in rules)
    return NOTHING, Dict("y" => y, back...)
end

sides(pad) = pad == "same" ? SamePad() : pad isa AbstractVector ? Tuple(Int.(pad)) : pad
function real_layer(kind, t, m)
    kind == "dense" && return Dense(t["weight"], false)
    kind == "conv" && return Conv(t["weight"], false, identity; stride=m["stride"], pad=sides(m["pad"]))
    kind == "conv_transpose" && return ConvTranspose(t["weight"], false, identity; stride=m["stride"], pad=sides(m["pad"]))
    startswith(kind, "layer_norm") && return filled(Flux.f64(LayerNorm(size(t["weight"]))), t)
    kind == "group_norm" && return filled(Flux.f64(GroupNorm(length(t["weight"]), m["groups"])), t)
    kind == "mean_pool" && return MeanPool((m["size"], m["size"]); stride=m["stride"], pad=m["pad"])
    kind == "upsample" && return Upsample(:nearest; scale=m["scale"])
    kind == "pad" && return x -> NNlib.pad_zeros(x, sides(m["pad"]); dims=(1, 2))
    return Broadcast.BroadcastFunction((gelu=gelu, sigmoid=sigmoid, softplus=softplus)[Symbol(kind)])
end

"A layer with such tensors by canonical name."
function filled(layer, tensors)
    for (name, place) in parameter_fields(layer)
        copyto!(lying_at(layer, place), tensors[name])
    end
    return layer
end

# The bridge's cost alone: arrays in, one number back.
answers("echo") do worker, message, arrays
    return NOTHING, Dict("sum" => fill(sum(sum(Float64, value) for value in values(arrays))))
end

answers("sketch") do worker, message, arrays
    return NOTHING, Dict("sketch" => sketch(arrays["x"]))
end

# What the benchmarks ask of the worker, besides the wire's own requests: steps with their garbage collection and
# phases, parts of a run, and the recipe's operations alone.

"Wait until the device has done what it was given."
synchronise(::Val) = nothing

"Have the device compute Float32 as Float32."
float32_only!(::Val) = nothing

"The arithmetic that the device uses for Float32: `float32` or `tf32`."
float32_class(::Val) = "float32"

# As `configure`, with the changes of `tuned.jl` (none: the idiomatic step whose phases are timed).
answers("bench_configure") do worker, message, arrays
    BLAS.set_num_threads(message["blas_threads"])
    config = config_from_dict(message["config"])
    load_gpu_packages(config.device)
    Base.invokelatest(float32_only!, Val(Symbol(config.device)))
    changed = isnothing(message["changes"]) ? config : Tuned(config, message["changes"])
    worker.stack = Base.invokelatest(FluxStack, changed)
    return bench_facts(config), NOTHING
end

answers("bench_facts") do worker, message, arrays
    return bench_facts(worker.stack.config), NOTHING
end

bench_facts(config) = merge(
    describe(),
    Dict(
        "device" => Base.invokelatest(device_name, config.device),
        "precision" => config.dtype == "float32" ? Base.invokelatest(float32_class, Val(Symbol(config.device))) : config.dtype,
        "gc_threads" => Threads.ngcthreads(),
        "opt_level" => Int(Base.JLOptions().opt_level),
    ),
)

changes_of(config) = Set{String}()
changes_of(config::Tuned) = config.changes

# Change what a tuned stack does from its next step on.
answers("bench_changes") do worker, message, arrays
    tuned = worker.stack.config
    union!(empty!(tuned.changes), Tuned(tuned.config, message["changes"]).changes)
    return NOTHING, NOTHING
end

# Steps in a row as `time_steps!`, synchronised on both sides; besides seconds and losses, of each step the seconds
# within it that garbage collection took, its pauses, the bytes that were allocated, and (tuned stacks) when the
# discriminator's update ended.
answers("bench_steps") do worker, message, arrays
    stack, draws = worker.stack, draws_of(message, Dict())
    device = Val(Symbol(stack.config.device))
    at_end = "gc" in changes_of(stack.config)
    out = Dict{String,Any}(
        name => Any[] for name in ("seconds", "losses", "gc_seconds", "gc_pauses", "bytes", "discriminator_seconds")
    )
    for i in 0:(message["batches"] - 1)
        batch = arrays["batch/$i"]
        synchronise(device)
        before, start = Base.gc_num(), time_ns()
        run = Run(stack, at(draws, stack.steps))
        collect_after(at_end) do
            train_step!(run, stack.config, on_device(run, batch))
        end
        synchronise(device)
        push!(out["seconds"], (time_ns() - start) / 1e9)
        spent = Base.GC_Diff(Base.gc_num(), before)
        stack.steps += 1
        push!(out["losses"], sum(Float64(only(value)) for (key, value) in run.kept if startswith(key, "loss/")))
        push!(out["gc_seconds"], spent.total_time / 1e9)
        push!(out["gc_pauses"], spent.pause)
        push!(out["bytes"], spent.allocd)
        stack.config isa Tuned &&
            push!(out["discriminator_seconds"], (stack.config.ended["discriminator"] - start) / 1e9)
    end
    return out, NOTHING
end

"`work()`; with `at_end` no garbage is collected inside it and the young generation right after it."
function collect_after(work, at_end)
    at_end || return work()
    GC.enable(false)
    try
        work()
    finally
        GC.enable(true)
    end
    GC.gc(false)
end

"`repeats` timings of `work()` in seconds."
function timed(work, repeats, device=Val(:cpu))
    return map(1:repeats) do _
        synchronise(device)
        start = time_ns()
        work()
        synchronise(device)
        (time_ns() - start) / 1e9
    end
end

# The draws of one step of flux_tutorial alone, without the step.
answers("expand_draws") do worker, message, arrays
    c, draws = worker.stack.config, draws_of(message, Dict())
    normal(draws, "noise", (c.latent_dim, c.batch))
    for call in ("real", "fake", "generator")
        keep(draws, "mask/$call/discriminator.drop1", (14, 14, c.width, c.batch), c.dropout)
        keep(draws, "mask/$call/discriminator.drop2", (7, 7, 2c.width, c.batch), c.dropout)
    end
    return NOTHING, NOTHING
end

# A part of a run besides its steps: `generate`, `draws`, `data` or `picture`.
answers("bench_phase") do worker, message, arrays
    stack, draws = worker.stack, draws_of(message, Dict())
    c, repeats, device = stack.config, message["repeats"], Val(Symbol(stack.config.device))
    seconds = if message["phase"] == "generate"
        latent = picture_latent(c, 0)
        timed(() -> generate(stack, latent), repeats, device)
    elseif message["phase"] == "draws"
        timed(() -> ANSWERS["expand_draws"](worker, message, arrays), repeats)
    elseif message["phase"] == "data"
        bytes, step = arrays["images"], Ref(0)
        timed(repeats) do
            batch_of(c, draws, bytes, step[])
            step[] = (step[] + 1) % steps_per_epoch(c, size(bytes, 3))
        end
    elseif message["phase"] == "picture"
        values = generate(stack, picture_latent(c, 0))
        timed(() -> png_bytes(picture_grid(values, c.grid)), repeats)
    else
        error("no phase $(message["phase"])")
    end
    return Dict("seconds" => seconds), NOTHING
end

# What Flux's own dropout makes of ones, and Julia's own noise (pygan/benchmarking/native_law.py).
answers("bench_law") do worker, message, arrays
    count = message["count"]
    ones_ = worker.stack.move(ones(Float32, count))
    layers = (layer for network in values(worker.stack.networks) for (_, layer) in named_layers(network))
    rates = sort!(unique(Float64(layer.p) for layer in layers if layer isa Dropout && layer.p > 0))
    dropout = map(rates) do rate
        kept = filter(!iszero, Array(first(Flux.Zygote.pullback(Dropout(rate), ones_))))
        Dict("rate" => rate, "kept" => length(kept) / count, "low" => minimum(kept), "high" => maximum(kept))
    end
    noise = Float64.(normal(NativeDraws(), "noise", (count,)))
    mean = sum(noise) / count
    variance = sum(abs2, noise .- mean) / count
    return Dict{String,Any}("count" => count, "dropout" => dropout, "mean" => mean, "variance" => variance), NOTHING
end

# Median seconds of each of the recipe's operations alone, on arrays of the shapes it has in a step (PyTorch's, from
# `pygan.benchmarking.work`). Entries: `kind`, `pass`, `input`, `weight`, `output`, `stride`, `padding`.
answers("bench_operations") do worker, message, arrays
    repeats = message["repeats"]
    times = [median_of(timed(operation(entry), repeats + 1)[2:end]) for entry in message["operations"]]
    return Dict("seconds" => times), NOTHING
end

median_of(values) = (ordered = sort(values); n = length(ordered); (ordered[cld(n, 2)] + ordered[n ÷ 2 + 1]) / 2)

"A function that does one operation."
function operation(entry)
    kind, pass = entry["kind"], entry["pass"]
    sized(name) = randn(Float32, Tuple(Int.(reverse(entry[name])))...)
    x = sized("input")
    kind in ("conv", "conv_transpose", "dense") && return product(kind, pass, entry, x, sized("weight"), sized("output"))
    layer = if kind == "batch_norm"
        BatchNorm(size(x, ndims(x) - 1), relu)
    elseif kind == "leaky"
        x -> leakyrelu.(x, 0.2f0)
    elseif kind == "dropout"
        mask = Float32.(rand(size(x)...) .> 0.3)
        x -> x .* mask
    elseif kind == "native_dropout"
        Dropout(0.3)
    elseif kind == "masks"
        return () -> Float32.(keep(Draws(0), "mask", size(x), 0.3)) .* 1.25f0
    elseif kind == "noise"
        return () -> normal(Draws(0), "noise", size(x))
    elseif kind == "optimiser"
        rule = Flux.setup(Adam(2.0f-4), x)
        return () -> Optimisers.update!(rule, x, x)
    else
        error("no operation $kind")
    end
    pass == "forward" && return () -> layer(x)
    return () -> last(Flux.Zygote.pullback(layer, x))(x)
end

function product(kind, pass, entry, x, weight, y)
    if kind == "dense"   # weight (out, in) in both languages; here reversed by `sized`
        pass == "forward" && return () -> weight' * x
        pass == "input" && return () -> weight * y
        return () -> y * x'
    end
    stride, padding = entry["stride"], entry["padding"]
    wide, narrow = kind == "conv" ? (x, y) : (y, x)
    dims = NNlib.DenseConvDims(size(wide), size(weight); stride, padding)
    down() = NNlib.conv(wide, weight, dims)
    up() = NNlib.∇conv_data(narrow, weight, dims)
    by_weight() = NNlib.∇conv_filter(wide, narrow, dims)
    pass == "weight" && return by_weight
    return (pass == "forward") == (kind == "conv") ? down : up
end

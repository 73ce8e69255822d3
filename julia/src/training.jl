# Training without Python: what train.jl calls.

const CAPTURES = ("logits", "gradients", "patterns", "state", "sketches", "layers", "layer_sketches")

"Versions, threads and device, for traces and reports."
function describe()
    packages = (Flux=Flux, NNlib=NNlib, Optimisers=Optimisers, Zygote=Flux.Zygote, PyganFlux=@__MODULE__)
    return Dict{String,Any}(
        "julia" => string(VERSION),
        "packages" => Dict(string(name) => string(pkgversion(package)) for (name, package) in pairs(packages)),
        "julia_threads" => Threads.nthreads(),
        "blas_threads" => BLAS.get_num_threads(),
        "blas" => [basename(lib.libname) for lib in BLAS.get_config().loaded_libs],
        "cpu" => Sys.cpu_info()[1].model,
        "cpu_name" => Sys.CPU_NAME,
        "llvm" => string(Base.libllvm_version),
    )
end

"The latent vectors of the pictures after a step (latent_dim, grid^2): by default those of the whole run."
function picture_latent(config, step)
    stream, at_step = fresh_latent(config) ? ("picture_latent", step) : ("fixed_latent", 0)
    return normal(at(Draws(config.seed), at_step), stream, (config.latent_dim, config.grid^2))
end

"""
Train on IDX images for `steps` steps; write pictures as PNG and a trace into `out`. `report(step, losses)` is called
after each step. Step numbers and picture names are the article's: the picture of step s is drawn after s + 1 updates,
the last one is numbered by the total.
"""
function train(config, images_path, out; steps, capture=(), command="", report=(step, losses) -> nothing)
    unknown = setdiff(first.(split.(capture, ":")), CAPTURES)
    isempty(unknown) || error("cannot capture $(join(unknown, ", ")); known: $(join(CAPTURES, ", "))")
    bytes = read_images(images_path)
    stack = FluxStack(config)
    draws = Draws(config.seed)
    header = Dict{String,Any}(
        "stack" => "flux",
        "config" => config_dict(config),
        "data" => Dict("name" => basename(images_path), "images" => size(bytes, 3), "sha256" => bytes2hex(sha256(vec(bytes)))),
        "environment" => describe(),
        "command" => command,
        "recorded" => string(now(UTC)),
    )
    writer = TraceWriter(joinpath(out, "flux.trace"), header)
    draw_pictures(number) = begin
        values = generate(stack, picture_latent(config, number))
        name = "dcgan_steps_$(lpad(number, 6, '0')).png"
        grid = picture_grid(values, config.grid)
        write_atomically(joinpath(out, name), png_bytes(grid))
        Dict("pictures/values" => values, "pictures/grid" => grid)
    end
    try
        "state" in capture && add!(writer, "initial", Dict("state/$k" => v for (k, v) in state(stack)))
        for step in 0:(steps - 1)
            batch = batch_of(config, draws, bytes, step)
            order = String[]
            arrays = step!(stack, batch, at(draws, step), capture; order)
            step % config.picture_every == 0 && merge!(arrays, draw_pictures(step))
            hash = bytes2hex(sha256(collect(reinterpret(UInt8, vec(batch)))))
            add!(writer, step, arrays, Dict{String,Any}("batch_sha256" => hash, "order" => order))
            report(step, Dict(k => only(v) for (k, v) in arrays if startswith(k, "loss/")))
        end
        add!(writer, steps, draw_pictures(steps))
    finally
        flush!(writer)
    end
    return stack
end

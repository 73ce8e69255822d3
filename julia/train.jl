# Trains a recipe on Flux with no Python at all: pictures, losses and a trace that pygan can compare.
#
#   julia --project=julia julia/train.jl --images train-images-idx3-ubyte --out runs/flux [--steps 469] [--<config field> value]
#
# With --bench alone it answers the requests of pygan's benchmarks on standard input and output instead, with as many
# Julia threads as it was started with (-t): the only way in which Flux is timed on several of them.

using PyganFlux
using PyganFlux: published, train, read_images, steps_per_epoch
using LinearAlgebra: BLAS

const USAGE = """
usage: julia --project=julia julia/train.jl --images FILE --out FOLDER [--steps N]
                                            [--capture $(join(PyganFlux.CAPTURES, ","))]
                                            [--recipe $(join(sort!(collect(keys(PyganFlux.PUBLISHED))), "|"))] [--<config field> VALUE]
"""

function parse_flags(arguments)
    flags = Dict{String,String}()
    iseven(length(arguments)) || return nothing
    for (name, value) in Iterators.partition(arguments, 2)
        startswith(name, "--") || return nothing
        flags[replace(name[3:end], "-" => "_")] = value
    end
    return flags
end

"Answer benchmark requests until standard input ends; whatever else is printed goes to standard error."
function bench()
    replies = stdout
    redirect_stdout(stderr)
    PyganFlux.serve_lines(stdin, replies)
    return 0
end

function main(arguments)
    arguments == ["--bench"] && return bench()
    flags = parse_flags(arguments)
    if isnothing(flags) || !all(haskey.(Ref(flags), ("images", "out")))
        isnothing(flags) || println(stderr, "missing: --images or --out")
        print(stderr, USAGE)
        return 2
    end
    images, out = flags["images"], flags["out"]
    chosen = (Symbol(k) => v for (k, v) in flags if k ∉ ("images", "out", "steps", "capture", "recipe"))
    config = published(get(flags, "recipe", "flux_tutorial"); chosen...)
    get(PyganFlux.config_dict(config), "semantics", "") == "as_printed" &&
        @warn "as_printed: the published loop never gives the generator a gradient, so it never trains."
    BLAS.set_num_threads(config.threads == 0 ? Sys.CPU_THREADS : config.threads)
    PyganFlux.load_gpu_packages(config.device)
    epoch = steps_per_epoch(config, size(read_images(images), 3))
    steps = haskey(flags, "steps") ? parse(Int, flags["steps"]) : config.epochs * epoch
    capture = filter(!isempty, split(get(flags, "capture", ""), ","))
    started = time()
    report(step, losses) = if step % 10 == 0 || step == steps - 1
        rate = (step + 1) / (time() - started)
        left = round(Int, (steps - step - 1) / rate)
        println("step $(step + 1)/$steps  ", join(("$(k[6:end]) $(round(v; digits=4))" for (k, v) in sort!(collect(losses))), "  "),
            "  $(round(rate; digits=2)) steps/s  $left s left")
    end
    command = join(["julia --project=julia julia/train.jl"; arguments], " ")
    Base.invokelatest(train, config, images, out; steps, capture, command, report)
    return 0
end

Base.exit_on_sigint(false)  # Ctrl-C reaches the handler below, after the pending records are written
try
    exit(main(ARGS))
catch exception
    exception isa InterruptException && (println(stderr, "stopped; every file written so far is valid"); exit(130))
    println(stderr, "error: ", sprint(showerror, exception))
    exit(2)
end

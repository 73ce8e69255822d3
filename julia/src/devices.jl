# Where arrays live. The GPU comes with the package extension PyganFluxCUDAExt, once CUDA and cuDNN are loaded.

const GPU_PACKAGES = ("CUDA", "cuDNN")

"What moves an array or a network to a device; the extension adds a method for a GPU that works."
gpu_mover(::Val) = nothing

"Name of the GPU that `gpu_mover` moves to."
gpu_name(::Val) = "none"

"The mover for `device`. Without a working GPU it is the CPU's, with a warning, as the published script does."
function mover(device)
    device == "cpu" && return identity
    move = gpu_mover(Val(Symbol(device)))
    isnothing(move) || return move
    @warn "No GPU that Flux can use for device = $device (are CUDA and cuDNN in the environment?): training on the CPU."
    return identity
end

"What the run computes on, in words."
device_name(device) = device == "cpu" || isnothing(gpu_mover(Val(Symbol(device)))) ? "cpu" : gpu_name(Val(Symbol(device)))

"Load CUDA and cuDNN where a GPU is asked for and the environment has them."
function load_gpu_packages(device)
    device == "cpu" && return nothing
    for name in GPU_PACKAGES
        id = Base.identify_package(name)
        isnothing(id) || Base.require(id)
    end
end

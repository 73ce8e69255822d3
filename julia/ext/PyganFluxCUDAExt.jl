# Flux on an NVIDIA GPU. Unverified: written against CUDA.jl 5, not yet run on a GPU.
module PyganFluxCUDAExt

using PyganFlux, CUDA, cuDNN

PyganFlux.gpu_mover(::Val{:cuda}) = CUDA.functional() ? PyganFlux.Flux.gpu_device() : nothing
PyganFlux.gpu_name(::Val{:cuda}) = CUDA.name(CUDA.device())

end

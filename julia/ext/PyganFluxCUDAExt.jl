# Flux on an NVIDIA GPU. Unverified: written against CUDA.jl 5, not yet run on a GPU.
module PyganFluxCUDAExt

using PyganFlux, CUDA, cuDNN

PyganFlux.gpu_mover(::Val{:cuda}) = CUDA.functional() ? PyganFlux.Flux.gpu_device() : nothing
PyganFlux.gpu_name(::Val{:cuda}) = CUDA.name(CUDA.device())
PyganFlux.synchronise(::Val{:cuda}) = CUDA.synchronize()
PyganFlux.float32_only!(::Val{:cuda}) = CUDA.math_mode!(CUDA.PEDANTIC_MATH)
PyganFlux.float32_class(::Val{:cuda}) = CUDA.math_mode() == CUDA.PEDANTIC_MATH ? "float32" : "tf32"

end

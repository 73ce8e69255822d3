"""
The Flux side of pygan: the recipes as Flux Chains, the keyed draws, the stack that runs them, and what it needs to
work without Python (IDX, PNG, traces). Arrays inside are Flux's: images `(W, H, C, N)`, features `(F, N)`.

"Wire" arrays are what crosses to Python and to disk: column-major arrays whose axes are PyTorch's in reverse, so
their bytes are PyTorch's row-major bytes.
"""
module PyganFlux

using ChainRulesCore: ChainRulesCore, NoTangent, ZeroTangent, ignore_derivatives, unthunk
using Dates
using Flux
using Flux: Chain, BatchNorm, Conv, ConvTranspose, Dense, Dropout, GroupNorm, LayerNorm, Parallel, SkipConnection
using Flux: MeanPool, SamePad, Upsample, gelu, leakyrelu, relu, sigmoid, softplus
using Flux.Losses: logitbinarycrossentropy
using JSON
using LinearAlgebra: BLAS
using Mmap
using NNlib
using Optimisers
using Optimisers: Adam, AdamW, Descent, Momentum, Nesterov, OptimiserChain, WeightDecay
using PrecompileTools: @compile_workload
using Random: Random
using SHA: sha256
using TOML
using Zlib_jll: libz

const SHARE = joinpath(@__DIR__, "..", "share")

include("draws.jl")
include("layouts.jl")
include("layers.jl")
include("sketches.jl")
include("safetensors.jl")
include("dropout.jl")

include("recipe.jl")
include_dependency(joinpath(@__DIR__, "recipes"))
foreach(include, readdir(joinpath(@__DIR__, "recipes"); join=true))

include("devices.jl")
include("stack.jl")
include("optimisers.jl")
include("state.jl")
include("data.jl")
include("pictures.jl")
include("traces.jl")
include("training.jl")
include("worker.jl")
include("tuned.jl")
include("tuned_convolutions.jl")
include("tuned_fourier.jl")
include("bench.jl")
include("precompile.jl")

end

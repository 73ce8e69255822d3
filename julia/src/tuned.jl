# The flux tutorial's step in faster forms, over the same parameters and the same draws. The idiomatic recipe is left
# as it is; each form is one name in CHANGES, so that its gain can be measured alone (benchmarking, row flux-tuned).

const CHANGES = (
    "gc",       # no collection inside a step, one of the young generation at its end, inside the measured time
    "masks",    # dropout masks made in one array by all threads, in place of five copies
    "norm",     # BatchNorm and relu in two passes over the data, in place of broadcasts that each make an array
    "weights",  # the convolutions' gradients by weight split over the batch, which NNlib leaves on one thread
    "unused",   # no gradient by the weights of a network that is not updated, nor by the first layer's data
    "patches",  # convolutions over patches whose channels lie side by side (tuned_convolutions.jl)
    "leaky",    # leaky relu and dropout in one pass each way, in place of broadcasts of dual numbers
    "fourier",  # the 5 x 5 transposed convolution by exact transforms (tuned_fourier.jl)
)

"A config whose step is changed as `changes` says; every field of the config itself is there too."
struct Tuned{C}
    config::C
    changes::Set{String}
    trained::Base.RefValue{String}
    ended::Dict{String,UInt64}
end

function Tuned(config::Recipe{:flux_tutorial}, changes)
    unknown = setdiff(changes, CHANGES)
    isempty(unknown) || error("no such change: $(join(unknown, ", ")); known: $(join(CHANGES, ", "))")
    return Tuned(config, Set{String}(changes), Ref(""), Dict{String,UInt64}())
end
Tuned(config, changes) = error("only flux_tutorial has faster forms, not $(config.recipe)")

Base.getproperty(t::Tuned, name::Symbol) =
    hasfield(Tuned, name) ? getfield(t, name) : getproperty(getfield(t, :config), name)

networks(t::Tuned) = networks(t.config)
optimisers(t::Tuned) = optimisers(t.config)
initial_weight(t::Tuned, arguments...) = initial_weight(t.config, arguments...)
train_step!(run, t::Tuned, real) = train_step!(run, t.config, real)
pictures(run, t::Tuned, latent) = pictures(run, t.config, latent)

"As for any run; when it ended is kept in the config's `ended`."
function update!(loss, run::Run{<:Tuned}, name)
    run.config.trained[] = name
    invoke(update!, Tuple{Any,Run,Any}, loss, run, name)
    run.config.ended[name] = time_ns()
    return nothing
end

"Which forms one call takes. `frozen`: its network is not the one being updated."
struct Plan
    masks::Bool
    norm::Bool
    weights::Bool
    unused::Bool
    patches::Bool
    fourier::Bool
    leaky::Bool
    frozen::Bool
    patterns::Bool
end

const TUNED_KINKS = (norm1="relu1", norm2="relu2", norm3="relu3", leaky1="leaky1", leaky2="leaky2")

function call(run::Run{<:Tuned}, name, network, chain, x)
    inside = NNlib.within_gradient(x)
    plan = ignore_derivatives() do
        has(change) = change in run.config.changes
        for (path, layer) in named_layers(chain)
            layer isa DrawnDropout || continue
            stream = "mask/$name/$network.$path"
            layer.source[] = has("masks") ? (run.draws, stream) : (dims, rate) -> keep(run.draws, stream, dims, rate)
        end
        patterns = inside && !isdisjoint(run.capture, ("patterns", "patterns:$name"))
        forms = has.(("masks", "norm", "weights", "unused", "patches", "fourier"))
        Plan(forms..., inside && has("leaky"), run.config.trained[] != network, patterns)
    end
    prefix = "pattern/$name/$network"
    result = walked(run, plan, prefix, keys(chain.layers), Tuple(chain.layers), x, !plan.frozen)
    ignore_derivatives(() -> inside && keep_buffers!(run, name, network, chain))
    return result
end

"The layers in turn; `data`: what enters depends on nothing that is trained."
walked(run, plan, prefix, ::Tuple{}, ::Tuple{}, x, data) = x
function walked(run, plan, prefix, names::Tuple, layers::Tuple, x, data)
    y = fast(first(layers), x, plan, data)
    pattern!(run, plan, prefix, first(names), y)
    return walked(run, plan, prefix, Base.tail(names), Base.tail(layers), y, false)
end

"A leaky relu with the dropout after it; the recipe has no other function before a dropout."
function walked(run, plan, prefix, names::Tuple, layers::Tuple{Function,DrawnDropout,Vararg}, x::Array, data)
    rest = Base.tail(Base.tail(names)), Base.tail(Base.tail(layers))
    if plan.leaky
        pattern!(run, plan, prefix, first(names), x)
        mask = ignore_derivatives(() -> mask_of(layers[2], x, plan))
        y = leaky_dropped(x, mask, eltype(x)(Float32(run.config.leaky_slope)))
        return walked(run, plan, prefix, rest..., y, false)
    end
    z = fast(layers[1], x, plan, data)
    pattern!(run, plan, prefix, first(names), z)
    return walked(run, plan, prefix, rest..., fast(layers[2], z, plan, data), false)
end

pattern!(run, plan, prefix, name, y) = ignore_derivatives() do
    plan.patterns && haskey(TUNED_KINKS, name) && record!(run, "$prefix.$(TUNED_KINKS[name])", Array(y .> 0))
end

fast(layer, x, plan, data) = layer(x)

# --- dropout -------------------------------------------------------------------------------------------------

function fast(layer::DrawnDropout, x::Array{T}, plan, data) where {T}
    plan.masks || return layer(x)
    NNlib.within_gradient(x) || return x
    return x .* ignore_derivatives(() -> mask_of(layer, x, plan))
end

function mask_of(layer, x::Array{T}, plan) where {T}
    plan.masks || return T.(layer.source[](size(x), layer.p)) .* T(layer.scale)
    draws, stream = layer.source[]
    return scaled_mask(T, draws, stream, size(x), layer.p, layer.scale)
end

"`T.(keep(draws, stream, dims, rate)) .* T(scale)`, the same bits, in one array and by all threads."
function scaled_mask(::Type{T}, draws::Draws, stream, dims, rate, scale) where {T}
    haskey(draws.overrides, stream) && return T.(keep(draws, stream, dims, rate)) .* T(scale)
    threshold = keep_threshold(rate)
    kept = T(scale)
    out = Array{T}(undef, dims)
    key = (draws.seed, stream_id(stream))
    in_parts(cld(length(out), 16)) do blocks
        @inbounds for block in blocks
            words = philox((UInt64(block), draws.step, zero(UInt64), zero(UInt64)), key)
            first = 16 * (block - 1)
            for lane in 0:3, field in 0:3
                i = first + 4 * lane + field + 1
                i <= length(out) || break
                out[i] = ((words[lane + 1] >> (16 * field)) & 0xffff) >= threshold ? kept : zero(T)
            end
        end
    end
    return out
end

as_array(x::Array) = x
as_array(x::AbstractArray) = Array(x)

"`work(part)` on contiguous parts of `1:count`, one a Julia thread."
function in_parts(work, count)
    tasks = min(Threads.nthreads(), count)
    tasks <= 1 && return (work(1:count); nothing)
    @sync for part in Iterators.partition(1:count, cld(count, tasks))
        Threads.@spawn work(part)
    end
    return nothing
end

# --- BatchNorm with relu -------------------------------------------------------------------------------------

function fast(layer::BatchNorm, x::Array, plan, data)
    (plan.norm && layer.λ === relu) || return layer(x)
    return norm_relu(x, layer.γ, layer.β, ignore_derivatives(layer))
end

"(places, channels, images) of an array of any rank."
by_channel(x) = reshape(x, :, size(x, ndims(x) - 1), size(x, ndims(x)))

"Outside a gradient: running statistics, as Flux's BatchNorm in test mode."
function norm_relu(x, γ, β, layer)
    inverse = inv.(sqrt.(layer.σ² .+ eltype(x)(layer.ϵ)))
    scale = γ .* inverse
    return scaled_relu(x, scale, β .- scale .* layer.μ)
end

function scaled_relu(x, scale, bias)
    y = similar(x)
    x3, y3 = by_channel(x), by_channel(y)
    in_parts(size(x3, 3)) do images
        @inbounds for n in images, c in axes(x3, 2)
            a, b = scale[c], bias[c]
            @simd for s in axes(x3, 1)
                y3[s, c, n] = max(a * x3[s, c, n] + b, zero(eltype(x)))
            end
        end
    end
    return y
end

"Sums over places and images of `term(s, c, n)` by channel, accumulated in Float64 from sums over places."
function channel_sums(term, x3)
    parts = collect(Iterators.partition(axes(x3, 2), cld(size(x3, 2), Threads.nthreads())))
    out = zeros(Float64, size(x3, 2))
    in_parts(length(parts)) do mine
        for channels in parts[mine]
            @inbounds for n in axes(x3, 3), c in channels
                total = zero(eltype(x3))
                @simd for s in axes(x3, 1)
                    total += term(s, c, n)
                end
                out[c] += total
            end
        end
    end
    return out
end

function ChainRulesCore.rrule(::typeof(norm_relu), x::Array{T}, γ, β, layer) where {T}
    x3 = by_channel(x)
    count = size(x3, 1) * size(x3, 3)
    μ = T.(channel_sums((s, c, n) -> @inbounds(x3[s, c, n]), x3) ./ count)
    σ² = T.(channel_sums((s, c, n) -> @inbounds(abs2(x3[s, c, n] - μ[c])), x3) ./ count)
    momentum = T(layer.momentum)
    layer.μ .= (1 - momentum) .* layer.μ .+ momentum .* μ
    layer.σ² .= (1 - momentum) .* layer.σ² .+ momentum .* (T(count) / T(count - 1)) .* σ²
    inverse = inv.(sqrt.(σ² .+ T(layer.ϵ)))
    scale = γ .* inverse
    y = scaled_relu(x, scale, β .- scale .* μ)
    y3 = by_channel(y)
    function pullback(Δ)
        dy3 = by_channel(unthunk(Δ))
        passed(s, c, n) = @inbounds ifelse(y3[s, c, n] > 0, dy3[s, c, n], zero(T))
        dβ = T.(channel_sums(passed, x3))
        dγ = T.(channel_sums((s, c, n) -> @inbounds(passed(s, c, n) * ((x3[s, c, n] - μ[c]) * inverse[c])), x3))
        dx = similar(x)
        dx3 = by_channel(dx)
        in_parts(size(x3, 3)) do images
            @inbounds for n in images, c in axes(x3, 2)
                a, b, m, i = dβ[c] / count, dγ[c] / count, μ[c], inverse[c]
                @simd for s in axes(x3, 1)
                    dx3[s, c, n] = scale[c] * (passed(s, c, n) - T(a) - (x3[s, c, n] - m) * i * T(b))
                end
            end
        end
        return NoTangent(), dx, dγ, dβ, NoTangent()
    end
    return y, pullback
end

# --- leaky relu with dropout ---------------------------------------------------------------------------------

function leaky_dropped(x::Array{T}, mask, slope) where {T}
    y = similar(x)
    in_parts(length(x)) do places
        @inbounds @simd ivdep for i in places
            y[i] = ifelse(x[i] > 0, x[i], slope * x[i]) * mask[i]
        end
    end
    return y
end

function ChainRulesCore.rrule(::typeof(leaky_dropped), x::Array{T}, mask, slope) where {T}
    function pullback(Δ)
        dy, dx = as_array(unthunk(Δ)), similar(x)
        in_parts(length(x)) do places
            @inbounds @simd ivdep for i in places
                dx[i] = dy[i] * mask[i] * ifelse(x[i] > 0, one(T), slope)
            end
        end
        return NoTangent(), dx, NoTangent(), NoTangent()
    end
    return leaky_dropped(x, mask, slope), pullback
end

# --- convolutions --------------------------------------------------------------------------------------------

function fast(layer::Union{Conv,ConvTranspose}, x::Array, plan, data)
    (plan.weights || plan.unused || plan.patches || plan.fourier) || return layer(x)
    transposed = layer isa ConvTranspose
    dims = ignore_derivatives(() -> transposed ? Flux.conv_transpose_dims(layer, x) : Flux.conv_dims(layer, x))
    wants = (data=!(plan.unused && data), weight=!(plan.unused && plan.frozen))
    z = convolved(x, layer.weight, dims, transposed, wants, plan)
    return NNlib.bias_act!(layer.σ, z, Flux.conv_reshape_bias(layer))
end

convolved(x, weight, dims, transposed, wants, plan) = first(with_gradients(x, weight, dims, transposed, plan))

"The result, and a function of its gradient and of what is wanted: the gradients by data and by weight."
function with_gradients(x, weight, dims, transposed, plan)
    plan.fourier && transposed && by_fourier(dims, size(x, 4)) && return fourier_with_gradients(x, weight, Fourier(dims))
    y, onwards, filter = with_products(x, weight, dims, transposed, plan)
    function gradients(dy, wants)
        dx = wants.data ? onwards(dy) : ZeroTangent()
        dw = wants.weight ? (transposed ? filter(dy, x) : filter(x, dy)) : ZeroTangent()
        return dx, dw
    end
    return y, gradients
end

"The result, and the products by which its gradient goes on to the data and to the weight."
function with_products(x, weight, dims, transposed, plan)
    if plan.patches && serves(dims)
        patches = Patches(dims)
        matrix = as_matrix(weight, patches)
        y = transposed ? to_wide(x, matrix, patches) : to_narrow(x, matrix, patches)
        back(dy) = transposed ? to_narrow(dy, matrix, patches) : to_wide(dy, matrix, patches)
        return y, back, (wide, narrow) -> by_weight(wide, narrow, patches)
    end
    y = transposed ? NNlib.∇conv_data(x, weight, dims) : NNlib.conv(x, weight, dims)
    onwards(dy) = transposed ? NNlib.conv(dy, weight, dims) : NNlib.∇conv_data(dy, weight, dims)
    filter = plan.weights ? split_filter_gradient : NNlib.∇conv_filter
    return y, onwards, (wide, narrow) -> filter(wide, narrow, dims)
end

function ChainRulesCore.rrule(::typeof(convolved), x, weight, dims, transposed, wants, plan)
    y, gradients = with_gradients(x, weight, dims, transposed, plan)
    function pullback(Δ)
        dx, dw = gradients(as_array(unthunk(Δ)), wants)
        return NoTangent(), dx, dw, NoTangent(), NoTangent(), NoTangent(), NoTangent()
    end
    return y, pullback
end

"`NNlib.∇conv_filter`, a part of the images on each Julia thread, the parts' sums added in order."
function split_filter_gradient(x, dy, dims)
    images = size(x, 4)
    tasks = min(Threads.nthreads(), images)
    tasks <= 1 && return NNlib.∇conv_filter(x, dy, dims)
    jobs = map(Iterators.partition(1:images, cld(images, tasks))) do part
        Threads.@spawn NNlib.∇conv_filter(view(x, :, :, :, part), view(dy, :, :, :, part), dims)
    end
    return reduce((a, b) -> a .+= b, fetch.(jobs))
end

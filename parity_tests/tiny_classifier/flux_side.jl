# The tiny classifier in Flux. Images (28, 28, 1, N) in [-1, 1], logits (2, N): upright, turned.
# Evaluated inside PyganFlux by its worker, whose names it extends.

function checked(c::Recipe{:tiny_classifier})
    must(holds, name) = holds || error("$name = $(getfield(c, name)) is out of range")
    must(c.recipe == "tiny_classifier", :recipe)
    must(c.dtype in ("float32", "float64"), :dtype)
    must(c.constants in ("float32", "native"), :constants)
    must(c.randomness in ("keyed", "native"), :randomness)
    must(c.device in ("cpu", "cuda"), :device)
    foreach(name -> must(getfield(c, name) >= 1, name), (:width, :epochs))
    must(c.batch >= 2, :batch)
    must(c.seed >= 0, :seed)
    must(0 <= c.threads <= 1024, :threads)
    foreach(name -> must(0 < getfield(c, name) < Inf, name), (:learning_rate, :adam_eps, :bn_eps, :bn_momentum))
    foreach(name -> must(0 <= getfield(c, name) < 1, name), (:beta1, :beta2, :dropout))
    must(0 <= c.turned <= 1, :turned)
    return c
end

published_names(::Recipe{:tiny_classifier}, network) = (norm1=:relu1, conv2=:tanh)

kinks(::Recipe{:tiny_classifier}) = (:relu1,)

function networks(c::Recipe{:tiny_classifier})
    w = c.width
    dropout = c.randomness == "native" ? Dropout(c.dropout) : DrawnDropout(c.dropout, constant(c, 1 / (1 - c.dropout)))
    classifier = Chain(;
        conv1=Conv((5, 5), 1 => w; stride=2, pad=2, bias=false),
        norm1=BatchNorm(w, relu; eps=constant(c, c.bn_eps), momentum=constant(c, c.bn_momentum)),
        drop1=dropout,
        conv2=Conv((3, 3), w => 2w, tanh; stride=2, pad=1),
        flatten=Flux.flatten,
        dense=Dense(7 * 7 * 2w => 2),
    )
    return Dict("classifier" => classifier)
end

optimisers(c::Recipe{:tiny_classifier}) = Dict(
    "classifier" => Adam(constant(c, c.learning_rate), (constant(c, c.beta1), constant(c, c.beta2)), constant(c, c.adam_eps)),
)

"Glorot-uniform from the draws `init/<path>`, as wire arrays of the given PyTorch shape in reverse."
function initial_weight(::Recipe{:tiny_classifier}, draws::Draws, stream, kind, dims)
    fan_in_and_out = prod(dims[1:(end - 2)]) * (dims[end - 1] + dims[end])
    return (uniform(draws, stream, dims) .- 0.5f0) .* sqrt(24.0f0 / Float32(fan_in_and_out))
end

turned_ones(draws::Draws, count, rate) = keep(draws, "turned", (count,), rate)
turned_ones(::NativeDraws, count, rate) = rand(Float32, count) .>= rate

"One step: turn the drawn images of the batch by 180 degrees, then softmax cross-entropy."
function train_step!(run, c::Recipe{:tiny_classifier}, real)
    turned = turned_ones(run.draws, size(real, 4), c.turned)
    images = copy(real)
    images[:, :, :, turned] = reverse(real[:, :, :, turned]; dims=(1, 2))
    labels = Flux.onehotbatch(turned, (false, true))
    update!(run, "classifier") do classifier
        logits = call(run, "images", "classifier", classifier, images)
        record!(run, "logits/images", logits)
        Flux.Losses.logitcrossentropy(logits, labels)
    end
    return nothing
end

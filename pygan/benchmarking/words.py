"""What the changes of the tuned rows are, in words, and what was expected of them."""

from __future__ import annotations

TORCH_CHANGES = {
    "memory": ("activations in channels-last memory, which oneDNN's convolutions prefer", "20 to 30 ms less"),
    "patches": ("convolutions of one-channel images as one product over patches", "20 ms less"),
    "fourier": (
        "the 5 x 5 transposed convolution by exact transforms: 121 products for 841 taps, in two "
        "parts for the sake of memory",
        "35 ms less",
    ),
    "norm": ("BatchNorm in few passes, its sums in cascades (for exactness)", "no gain"),
    "joined": ("BatchNorm with relu, leaky relu with dropout, flatten with dense in one pass each", "3 ms less"),
    "dense": ("the generator's dense layer computed once for its two calls, which see the same noise", "3 ms less"),
    "gradients": ("no gradient that nobody uses", "4 ms less"),
    "adam": ("torch's fused Adam with Optimisers.jl's corrections", "10 ms less"),
    "masks": ("dropout patterns drawn by two threads", "4 ms less"),
    "heap": (
        "freed memory kept by the process for the next step, in a process of its own: without it 0 to 14,000 page "
        "faults a step, as the memory happens to lie",
        "30 ms less",
    ),
}
"""The changes of :data:`pygan.stacks.fast.CHANGES` in words, and what was expected of each before it was measured, of a
step of 250 ms."""
DROPPED = (
    (
        "plain `torch.compile` of both networks",
        "faster between convolutions",
        "1.4 times slower than eager: convolutions cost the same, and inductor draws dropout by a scalar generator, so "
        "that the graphs which hold it take 3 times what `bernoulli_` and its neighbours took",
    ),
    ("dropout patterns drawn ahead by a thread while the step computes", "4 ms less", "within noise (0.98 to 1.00)"),
    ("complex products as 2 x 2 blocks of real ones: 41 larger matrix products", "no change", "8.5 ms in place of 7.0"),
    ("activations in memory with huge pages", "5 ms less", "within noise"),
    ("the frequencies' matrix products as one grouped convolution by oneDNN", "10 ms less", "7.8 ms in place of 8.1"),
    ("the generator's dense layer through oneDNN", "3 ms less", "3.0 ms for 4.6 alone, within noise in the step"),
    ("weights of convolutions in channels-last memory", "2 ms less", "within noise (1.00 to 1.04)"),
    ("transforms over some frequencies at a time, to stay in the cache", "3 ms less", "12.4 ms become 13.3 to 16.3"),
    (
        "real and fake images in one pass of the discriminator's 4 x 4 convolution",
        "3 ms less",
        "15.5 ms for 16.4 forward, 34.3 for 33.2 back, alone",
    ),
    ("overlapping windows added by shifted sums in place of `fold`", "1 ms less", "1.3 ms for 0.6, alone"),
    ("dropout factors by `where` in place of a conversion and a product", "1 ms less", "3.2 ms for 1.6, alone"),
    ("oneDNN's own gradients of the one-channel layers", "2 ms less", "0.6 or 5.4 ms, as the memory happens to lie"),
    (
        "bilinear forms for the 4 x 4 layers of stride 2, by polyphase parts",
        "no gain: transforms cost what products save",
        "not built",
    ),
)
"""What was tried and not kept: expected, measured (November 2026, AMD EPYC, 2 cores)."""

CHANGES = {
    "gc": "no garbage collection inside a step, one of the young generation at its end (inside the measured time)",
    "masks": "dropout masks made in one array by all threads, in place of five copies",
    "norm": "BatchNorm with relu in two passes over the data, in place of broadcasts that each make an array",
    "weights": "the convolutions' gradients by weight split over the batch, which NNlib leaves on one Julia thread",
    "unused": "no gradient that nobody uses",
    "patches": "convolutions as products over patches whose channels lie side by side, small images several at once",
    "leaky": "leaky relu and dropout in one pass each way by all threads, in place of broadcasts of dual numbers",
    "fourier": "the 5 x 5 transposed convolution by exact transforms: 121 products for 841 taps",
}
"""The changes of ``julia/src/tuned.jl`` in words."""

"""The names that a hint can have, and what each tells the reader to look at."""

from __future__ import annotations

from collections.abc import Mapping

CAUSES: Mapping[str, str] = {
    # layers with weights
    "kernel not flipped": "Flux convolves where PyTorch cross-correlates: turn every kernel by 180 degrees on the way.",
    "kernel mirrored": "One spatial axis of every kernel runs backwards: turn both, or none.",
    "kernel transposed": "Look at the order of the kernel's two spatial axes: x and y are swapped.",
    "weight transposed": "Look at the order of the weight's input and output axes when it is carried over.",
    "channels permuted": "Look at the order of channels or features, such as that of a reshape beside the layer.",
    "bias missing": "Look whether the layer is built with a bias, and whether the bias is carried over.",
    "stride or padding": "Compare stride, padding and how borders are filled or cropped; SAME may pad one side more.",
    "samples permuted": "Look at the order of the batch: shuffling, or a reshape across the batch axis.",
    "pixels permuted": "Look at the spatial axes of the data: their order and direction in memory.",
    # modes and BatchNorm
    "train or eval mode": "Look which calls run in train and which in eval mode, and at what sets it.",
    "BatchNorm mode": "Look which calls run in train and which in eval mode: one used the other's statistics.",
    "BatchNorm eps": "Compare the eps of the BatchNorm layers; defaults differ between frameworks.",
    "BatchNorm eps outside the root": "Look where eps is added: to the variance under the root, not to the deviation.",
    "BatchNorm over parts of the batch": "Look over which samples the statistics are taken: over all of the batch, not "
    "over parts of it or single samples.",
    "BatchNorm unbiased variance": "Normalise with the variance divided by n; n - 1 is for the running variance.",
    "BatchNorm affine missing": "Look whether the BatchNorm has weight and bias, and whether they are carried over.",
    "BatchNorm momentum": "Compare momentum; some frameworks count the share kept, others the share replaced.",
    "biased running variance": "Feed the running variance with the variance divided by n - 1, not by n.",
    "stale buffers": "The running statistics did not move: look at the mode of the call and at what tracks them.",
    "buffers updated twice": "The running statistics moved twice: look for a second pass in train mode.",
    # LayerNorm and GroupNorm
    "norm eps": "Compare the eps of the LayerNorm or GroupNorm. Flux's LayerNorm adds the square of its eps: give "
    "PyTorch's that square.",
    "norm eps outside the root": "Look where eps is added: to the variance under the root, not to the deviation.",
    "norm unbiased variance": "Normalise with the variance divided by n, not by n - 1.",
    "number of groups": "Compare the number of groups of the GroupNorm.",
    "norm over other axes": "Compare the axes: Flux's LayerNorm takes the first axes, PyTorch's the last.",
    "norm affine missing": "Look whether the LayerNorm or GroupNorm has weight and bias, and whether they are carried "
    "over.",
    # pooling and upsampling
    "other pooling": "Compare the kind of pooling, its windows and strides, and how the border counts.",
    "other upsampling": "Compare the interpolation of the upsampling.",
    # activations and dropout
    "leaky slope": "Compare the slope of the leaky relu below zero.",
    "on/off pattern": "Look at the condition of the ReLU or leaky ReLU: units far from zero were switched.",
    "activation missing": "Look whether the activation is applied, and whether it is applied in this call.",
    "softplus": "Compare beta and threshold of the softplus; NNlib's has beta 1 and no threshold.",
    "other activation": "Look at which activation function the layer uses.",
    "dropout scale": "Look at what kept units are multiplied by: 1 / (1 - p), with p the rate of dropping.",
    "dropout off": "Look at the mode of the call: dropout should be active and is not.",
    "dropout rate": "Compare the rates of dropping: other units are kept, and kept units have another factor.",
    "dropout over channels": "Look at the kind of dropout: whole channels are dropped where single units should be.",
    "mask order": "Look at the order in which keep patterns are drawn: that of another call or layer was used.",
    "dropout mask inverted": "Look whether the draw means keep or drop: the pattern is complemented.",
    "constant in the wrong width": "Only one run rounds this constant to Float32: use the same number in both.",
    # losses
    "sum instead of mean": "Look at the reduction of the loss: it sums where the reference averages.",
    "mean instead of sum": "Look at the reduction of the loss: it averages where the reference sums.",
    "labels swapped": "Look at which label belongs to which call.",
    "loss term missing": "Look whether every call enters the loss, and whether one of them is detached from it.",
    "loss scaled": "Look for a constant factor on the loss, such as a half.",
    "label smoothing": "Look at the labels: one was moved inwards.",
    "some labels flipped": "Look at the labels, sample by sample: some are those of the other class.",
    "least-squares loss": "The loss is LSGAN's squared distance from the labels: use cross-entropy on logits.",
    "saturating loss": "The generator minimises log(1 - D), the minimax loss: let it maximise log(D).",
    "Wasserstein loss": "The loss is a mean of raw logits, a critic's: use cross-entropy on logits.",
    "hinge loss": "The loss is a hinge on the logits: use cross-entropy on logits.",
    # gradients
    "gradient missing": "No gradient arrives: look for a detach, a no_grad, or a loss computed outside the gradient.",
    "gradient scaled": "Look for a constant factor between the loss and this gradient.",
    "gradients not reset": "Set gradients to zero before each backward pass: the step before is still in them.",
    "gradient clipped": "Look for clipping by value or by norm between the backward pass and the optimiser.",
    "weight decay in the gradient": "Look for a penalty on the weights in the loss, or a decay added to the gradients.",
    # optimisers
    "beta1": "Compare Adam's beta1; the DCGAN paper's 0.5 is not the default.",
    "beta2": "Compare Adam's beta2.",
    "betas swapped": "Look at the order in which the two betas are given.",
    "learning rate": "Compare the learning rates, network by network, and any schedule.",
    "Adam eps": "Compare Adam's eps, and whether it is added before or after the bias correction.",
    "Adam eps inside the root": "Look where Adam's eps is added: beside the root, not under it.",
    "missing update": "The parameter did not move: look what the optimiser was given and whether it steps.",
    "no bias correction": "Look at Adam's division by 1 - beta^t.",
    "stale beta powers": "Look at Adam's step count: the bias correction belongs to another update.",
    "momentum": "Compare the optimiser's momentum, dampening, and whether it is Nesterov's.",
    "weight decay": "Look for a weight decay in the optimiser.",
    "moments reset": "Adam's moments started anew: look whether the optimiser is built again or its state is lost.",
    "moments not kept": "Look at the optimiser's state: the update is right and its new moments are not stored.",
    "gradient squared missing": "Look at Adam's second moment: it averages the squared gradient.",
    "update applied twice": "Look whether the optimiser's step is called twice.",
    "sign of the update": "The step goes uphill: look at the sign of the loss or of the update.",
    "weights clipped": "Look for a clamp on the parameters after the update, as a Wasserstein GAN has.",
    "order of updates": "Look at which network is updated first: this call sees parameters of before their update.",
    "other optimiser": "Look at which optimiser is built: another rule explains this step.",
    # inputs
    "other draws": "Look at the stream and step of the random draw, or at which array enters the call.",
    "last batch wrong": "Look at how a batch that the data do not fill is handled: kept smaller, dropped or filled up.",
    "images scaled otherwise": "Look at how grey values are scaled, such as to [0, 1] or to [-1, 1].",
    "images transposed": "Look at the order of rows and columns when images are read.",
    "images flipped": "Look at the direction of rows and columns when images are read.",
    "other batch": "Compare the order of the images in an epoch, how the order changes from epoch to epoch, and how "
    "grey values are scaled.",
    # before the first step
    "layer renamed": "Give the layer the name that it has on the other side.",
    "bias too many": "Build the layer without a bias: PyTorch's layers have one by default.",
    "kernel size": "Compare the kernel sizes of the convolution.",
    "layer of another size": "Compare the layer's numbers of inputs and outputs.",
    "initial weights in another order": "Fill the weights in the order of memory in which the draws are made.",
    "initial weights scaled": "Compare the standard deviation or gain of the initialiser.",
    "other initial weights": "Compare the law and the stream of the draws of this layer's weights.",
    "beta powers one step ahead": "Adam's powers of beta start at beta, not at its square.",
    # pictures
    "grid laid out otherwise": "Look at how the pictures are put into the grid: their order, and the direction of rows "
    "and columns.",
    # runs as a whole
    "carried over from earlier steps": "Look at what lives outside the state: gradients not reset, schedules, caches.",
    "not deterministic": "Two runs of the same steps differ: look for draws without a key and for atomic sums.",
    "lowered precision": "Look for autocast, TF32, half or bfloat16 in this layer.",
    # any tensor
    "elements permuted": "The numbers are right and their places are not: look at reshapes and memory order.",
    "sign flipped": "The numbers are right but for their sign.",
    "scaled output": "The numbers are right but for one constant factor.",
    "NaN in the candidate": "Look for a division by zero, a root or logarithm of a negative number, or a batch of one.",
    "not finite": "Look for an overflow or a division by zero.",
    "unknown cause": "No usual slip reproduces these numbers; compare the code of this place on both sides.",
}
"""What to look at, by name."""

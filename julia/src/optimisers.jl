# What rules of Optimisers.jl keep of each tensor, under canonical names (see pygan/state.py); the torch side is
# pygan/stacks/optimiser_state.py. A rule that is not here needs these three functions.

unknown(rule) = error(
    "pygan does not know what the optimiser $(nameof(typeof(rule))) keeps; it knows Descent, Momentum, Nesterov, Adam, " *
    "AdamW and chains of these with WeightDecay. Add methods of slots, beta_powers and restored for it",
)

"What a velocity is of PyTorch's momentum buffer: Nesterov keeps it with the other sign."
scale_of(rule::Momentum, velocity) = eltype(velocity)(rule.eta)
scale_of(rule::Nesterov, velocity) = -eltype(velocity)(rule.eta)

"Slot => array of one tensor's optimiser state."
slots(::Union{Descent,WeightDecay}, ::Nothing) = ()
slots(rule::Union{Momentum,Nesterov}, velocity) = ("momentum_buffer" => velocity ./ scale_of(rule, velocity),)
slots(::Union{Adam,AdamW}, (m, v, _)) = ("exp_avg" => m, "exp_avg_sq" => v)
slots(chain::OptimiserChain, states) = reduce((a, b) -> (a..., b...), map(slots, chain.opts, states))
slots(rule, _) = unknown(rule)

"The velocities among what a rule keeps, which its slots hold divided by the learning rate."
velocities(::Union{Momentum,Nesterov}, velocity) = (velocity,)
velocities(chain::OptimiserChain, states) = reduce((a, b) -> (a..., b...), map(velocities, chain.opts, states))
velocities(_, _) = ()

"Products of the betas that the next update will use; nothing for a rule without bias correction."
beta_powers(::Union{Adam,AdamW}, state) = collect(last(state))
beta_powers(chain::OptimiserChain, states) =
    something(map(beta_powers, chain.opts, states)..., Some(nothing))
beta_powers(_, _) = nothing

"The state of a rule with the slots that `stored(slot)` gives and such products."
restored(::Union{Descent,WeightDecay}, ::Nothing, stored, powers) = nothing
restored(rule::Union{Momentum,Nesterov}, velocity, stored, powers) =
    copyto!(velocity, stored("momentum_buffer") .* scale_of(rule, velocity))
restored(::Union{Adam,AdamW}, (m, v, _), stored, powers) =
    (copyto!(m, stored("exp_avg")), copyto!(v, stored("exp_avg_sq")), Tuple(powers))
restored(chain::OptimiserChain, states, stored, powers) =
    map((rule, state) -> restored(rule, state, stored, powers), chain.opts, states)
restored(rule, _, _, _) = unknown(rule)

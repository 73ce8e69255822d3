# The dropout patterns of the calls in MASKS are those of another call.

function keep(draws::Draws, stream, dims, rate)
    call = split(stream, '/')[2]
    other = replace(stream, "mask/$call/" => "mask/$(get(MASKS, call, call))/")
    fields = draw_fields(UInt16, draws.seed, other, draws.step, prod(dims))
    return reshape(fields .>= keep_threshold(rate), dims)
end

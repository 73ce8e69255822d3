# Sketches: 17 numbers that stand for a large tensor. Twin of pygan/sketches.py; works on wire arrays.

const SKETCH_PROJECTIONS = 8
const SKETCH_ELEMENTS = 8

"2-norm, projections on fixed random signs, fixed elements: 17 Float64."
function sketch(wire::AbstractArray)
    flat = Float64.(vec(wire))
    signs = reinterpret(UInt8, draw_words(0, "sketch/signs", 0, cld(length(flat), 8)))
    places = draw_words(0, "sketch/places", length(flat), SKETCH_ELEMENTS) .% UInt64(length(flat))
    projections = map(0:(SKETCH_PROJECTIONS - 1)) do bit
        sum(((signs[i] >> bit) & 0x01 == 0x01 ? flat[i] : -flat[i]) for i in eachindex(flat))
    end
    return [sqrt(sum(abs2, flat)); projections; flat[Int.(places) .+ 1]]
end

# The published step with one thing changed: LABELS of real, fake and generated images, SUM in place of mean, noise as
# wide as the batch (NARROW), fresh noise for the generator (FRESH), or images from outside its gradient (OUTSIDE).

function train_step!(run, c::Recipe{:flux_tutorial}, real)
    agg = SUM ? sum : x -> sum(x) / length(x)
    loss(logits, label) = logitbinarycrossentropy(logits, label; agg)
    noise = on_device(run, normal(run.draws, "noise", (c.latent_dim, c.batch)))
    NARROW && (noise = noise[:, 1:size(real, 4)])
    D, G = run.networks["discriminator"], run.networks["generator"]
    fake = call(run, "sample", "generator", G, noise)

    update!(run, "discriminator") do discriminator
        real_logits = call(run, "real", "discriminator", discriminator, real)
        fake_logits = call(run, "fake", "discriminator", discriminator, fake)
        record!(run, "logits/real", real_logits)
        record!(run, "logits/fake", fake_logits)
        loss(real_logits, LABELS[1]) + loss(fake_logits, LABELS[2])
    end

    FRESH && (noise = on_device(run, normal(at(run.draws, run.draws.step + 1), "noise", (c.latent_dim, c.batch))))
    fake = OUTSIDE ? call(run, "generator", "generator", G, noise) : fake
    update!(run, "generator") do generator
        images = OUTSIDE ? fake : call(run, "generator", "generator", generator, noise)
        logits = call(run, "generator", "discriminator", D, images)
        record!(run, "logits/generator", logits)
        loss(logits, LABELS[3])
    end
    return nothing
end

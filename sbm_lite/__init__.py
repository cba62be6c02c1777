"""Score-based generative models, small enough to read in one sitting.

A *score* is the gradient of a log density, s(x) = ∇ₓ log p(x). The modules, in reading order:

    densities      distributions whose score is known exactly
    calculus       derivatives of vector fields: score_of, divergence, line integrals
    noise          corruption kernels, ladders, schedules; a score's other names
    losses         explicit, implicit, sliced and denoising score matching, NCSN, DDPM
    networks       everything a network can predict, turned into a score
    training       one loop for all of them, with checkpoints
    distributed    one training over several processes, on one machine or many
    data           digits; MNIST and CIFAR-10 for who has network
    variance       how noisy the target of denoising is; control variates
    samplers       Langevin dynamics, plain, adjusted and annealed; DDPM's reverse chain, DDIM
    experiments    one function per reproduced figure, and the networks that ship
    diagnostics    numbers that say how good a set of samples is
    figures        the pictures of the book (matplotlib)
    explorables    figures that simulate live, with or without a kernel
    labs           ipywidgets panels that re-run the real experiments

Points are tensors of shape (n, d); whatever gives one number per point has shape (n,).
Randomness comes from a `torch.Generator` passed by keyword, never from the global stream.
"""

__version__ = "0.1.0"

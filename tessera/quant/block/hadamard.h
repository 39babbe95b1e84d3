// Orthogonal matrices for rotations.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace tessera {

/// A Hadamard matrix of order n (entries 1 and -1, float64): Sylvester's for powers of two, otherwise times
/// one of Paley's. nullopt when n has no such factor.
std::optional<at::Tensor> hadamard_matrix(int64_t n);

/// diag(random signs) * Hadamard / sqrt(n) ("QuaRot"), float64; a uniformly random orthogonal matrix when n
/// has no Hadamard order or `hadamard` is false. The same seed gives the same matrix.
at::Tensor random_rotation(int64_t n, uint64_t seed, bool hadamard);

/// A uniformly random one of the orthogonal matrices that keep the vector of ones, float64.
at::Tensor mean_keeping_rotation(int64_t n, uint64_t seed);

}  // namespace tessera

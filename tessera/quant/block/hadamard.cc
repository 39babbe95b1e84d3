// Sylvester's and Paley's constructions, and random orthogonal matrices.
#include "tessera/quant/block/hadamard.h"

#include <cmath>
#include <random>
#include <vector>

namespace tessera {
namespace {

bool is_prime(int64_t n) {
  if (n < 2) return false;
  for (int64_t d = 2; d * d <= n; ++d) {
    if (n % d == 0) return false;
  }
  return true;
}

/// Jacobsthal matrix of a prime q: entry (i, j) is 1 when i - j is a nonzero square modulo q, -1 when it is
/// no square, 0 on the diagonal.
at::Tensor jacobsthal(int64_t q) {
  std::vector<double> character(static_cast<size_t>(q), -1);
  character[0] = 0;
  for (int64_t i = 1; i < q; ++i) character[static_cast<size_t>(i * i % q)] = 1;
  at::Tensor matrix = at::empty({q, q}, at::kDouble);
  double* out = matrix.data_ptr<double>();
  for (int64_t i = 0; i < q; ++i) {
    for (int64_t j = 0; j < q; ++j) out[i * q + j] = character[static_cast<size_t>((i - j + q) % q)];
  }
  return matrix;
}

/// The Jacobsthal matrix with a column of ones and a row of `row_sign`.
at::Tensor bordered(int64_t q, double row_sign) {
  at::Tensor matrix = at::zeros({q + 1, q + 1}, at::kDouble);
  matrix.narrow(0, 0, 1).narrow(1, 1, q).fill_(row_sign);
  matrix.narrow(0, 1, q).narrow(1, 0, 1).fill_(1);
  matrix.narrow(0, 1, q).narrow(1, 1, q).copy_(jacobsthal(q));
  return matrix;
}

/// n a power of two.
at::Tensor sylvester(int64_t n) {
  at::Tensor matrix = at::ones({1, 1}, at::kDouble);
  const at::Tensor two = at::tensor({1.0, 1.0, 1.0, -1.0}, at::kDouble).view({2, 2});
  while (matrix.size(0) < n) matrix = at::kron(two, matrix);
  return matrix;
}

/// Paley's matrix of order n, a multiple of four, where n - 1 or n / 2 - 1 is a prime of the right kind.
std::optional<at::Tensor> paley(int64_t n) {
  if (const int64_t q = n - 1; q % 4 == 3 && is_prime(q)) {
    return bordered(q, -1) + at::eye(n, at::kDouble);
  }
  if (const int64_t q = n / 2 - 1; n % 4 == 0 && q % 4 == 1 && is_prime(q)) {
    const at::Tensor off_diagonal = at::tensor({1.0, 1.0, 1.0, -1.0}, at::kDouble).view({2, 2});
    const at::Tensor diagonal = at::tensor({1.0, -1.0, -1.0, -1.0}, at::kDouble).view({2, 2});
    return at::kron(bordered(q, 1), off_diagonal) + at::kron(at::eye(n / 2, at::kDouble), diagonal);
  }
  return std::nullopt;
}

at::Tensor random_orthogonal(int64_t n, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  at::Tensor gaussian = at::empty({n, n}, at::kDouble);
  double* values = gaussian.data_ptr<double>();
  for (int64_t i = 0; i < n * n; ++i) values[i] = normal(random);
  const auto [q, r] = at::linalg_qr(gaussian);
  return q * r.diagonal().sign();
}

}  // namespace

std::optional<at::Tensor> hadamard_matrix(int64_t n) {
  if (n < 1) return std::nullopt;
  const int64_t power_of_two = n & -n;
  if (power_of_two == n) return sylvester(n);
  for (int64_t order = n / power_of_two * 4; n % order == 0; order *= 2) {
    if (const auto matrix = paley(order)) return at::kron(sylvester(n / order), *matrix);
  }
  return std::nullopt;
}

at::Tensor random_rotation(int64_t n, uint64_t seed, bool hadamard) {
  std::mt19937_64 random(seed);
  const auto matrix = hadamard ? hadamard_matrix(n) : std::nullopt;
  if (!matrix) return random_orthogonal(n, random);
  std::vector<double> signs(static_cast<size_t>(n));
  for (double& sign : signs) sign = random() & 1 ? 1 : -1;
  const at::Tensor diagonal = at::tensor(at::ArrayRef<double>(signs), at::kDouble);
  return diagonal.unsqueeze(1) * *matrix / std::sqrt(static_cast<double>(n));
}

/// The mirror U that exchanges the first unit vector and ones / sqrt(n) carries a rotation of the other n - 1
/// axes to one around the ones.
at::Tensor mean_keeping_rotation(int64_t n, uint64_t seed) {
  std::mt19937_64 random(seed);
  at::Tensor rotation = at::eye(n, at::kDouble);
  if (n == 1) return rotation;
  rotation.narrow(0, 1, n - 1).narrow(1, 1, n - 1).copy_(random_orthogonal(n - 1, random));
  at::Tensor normal = at::full({n}, -1 / std::sqrt(static_cast<double>(n)), at::kDouble);
  normal[0] += 1;
  const at::Tensor mirror = at::eye(n, at::kDouble) - 2 / normal.square().sum() * at::outer(normal, normal);
  return at::matmul(at::matmul(mirror, rotation), mirror);
}

}  // namespace tessera

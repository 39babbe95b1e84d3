// One linear layer by itself, for tests, checks and measurements.
#pragma once

#include <algorithm>
#include <memory>
#include <span>

#include "tessera/kernels/backend.h"

namespace tessera {

/// `count` rows of `width` floats that lie one behind the other in host memory.
inline Rows host_rows(const float* data, int64_t count, int64_t width) {
  return {const_cast<float*>(data), DType::kF32, count, width, width};
}

class SingleLinear {
 public:
  /// `backend` and, for floats, the weight must outlive it.
  SingleLinear(Backend& backend, const QuantizedLinear& layer)
      : backend_(backend), format_(backend.input_of(layer)), width_(std::max(layer.k, layer.k_in())) {
    const QuantizedLinear* part = &layer;
    linear_ = backend.load({&part, 1}, *format_);
  }
  SingleLinear(Backend& backend, const FloatWeight& weight, SumOrder order = SumOrder::kByBatch)
      : backend_(backend) {
    linear_ = backend.load({&weight, 1}, order);
    width_ = linear_->k_in();
    format_ = backend.float_input(width_);
  }

  const Linear& linear() const { return *linear_; }
  const InputFormat& format() const { return *format_; }
  std::unique_ptr<LinearInput> make_input(int64_t max_rows) const {
    return backend_.make_input(max_rows, width_);
  }

  /// y [m, n], or y += with `accumulate`, of x [m, k_in], rows of the backend's memory.
  void run(const Rows& x, const Rows& y, bool accumulate = false) {
    if (x.count > room_) {
      input_ = make_input(x.count);
      room_ = x.count;
    }
    run(x, *input_, y, accumulate);
  }
  /// The same through what make_input() gave, of this layer or another of its shape.
  void run(const Rows& x, LinearInput& input, const Rows& y, bool accumulate = false) const {
    backend_.prepare(x, *format_, input);
    backend_.linear(*linear_, input, y, accumulate);
  }
  /// The same for backends in host memory.
  void run(const float* x, int64_t m, float* y, bool accumulate = false) {
    run(host_rows(x, m, linear_->k_in()), host_rows(y, m, linear_->n()), accumulate);
  }

 private:
  Backend& backend_;
  std::unique_ptr<InputFormat> format_;
  std::unique_ptr<Linear> linear_;
  std::unique_ptr<LinearInput> input_;
  int64_t width_, room_ = 0;
};

}  // namespace tessera

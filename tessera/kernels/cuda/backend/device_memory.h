// Device memory, and host memory that the device reads without a stop.
#pragma once

#include <cuda_runtime.h>

#include <memory>
#include <span>

#include "tessera/kernels/rows.h"

namespace tessera::cuda {

/// Zeroed device memory. Throws Error when there is not enough, saying how much is free.
class DeviceBuffer : public Buffer {
 public:
  explicit DeviceBuffer(size_t bytes);
  ~DeviceBuffer() override;
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  void* data() override { return data_; }
  const void* data() const { return data_; }
  size_t bytes() const override { return bytes_; }
  template <class T>
  T* as(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(data_) + byte_offset);
  }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

void copy_to_device(const void* from, size_t bytes, DeviceBuffer& to);

/// A copy of host values in device memory; null when there are none.
template <class T>
std::unique_ptr<DeviceBuffer> to_device(std::span<const T> values) {
  if (values.empty()) return nullptr;
  auto buffer = std::make_unique<DeviceBuffer>(values.size_bytes());
  copy_to_device(values.data(), values.size_bytes(), *buffer);
  return buffer;
}
/// The values in device memory; null for none.
template <class T>
const T* values_of(const std::unique_ptr<DeviceBuffer>& buffer) {
  return buffer ? buffer->as<const T>() : nullptr;
}

/// Page-locked host memory.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_;
};

}  // namespace tessera::cuda

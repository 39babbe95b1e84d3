// The journal and the hash of the model that it guards.
#include "tessera/quant/journal.h"

#include <atomic>
#include <cmath>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/base/hash.h"
#include "tessera/base/parallel.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

template <class T>
bool all_finite(std::span<const T> values) {
  bool finite = true;
  for (T v : values) finite &= std::isfinite(to_float(v));
  return finite;
}

bool all_finite(const TensorView& view) {
  switch (view.dtype) {
    case DType::kF32:
      return all_finite(view.as<float>());
    case DType::kF16:
      return all_finite(view.as<Half>());
    case DType::kBF16:
      return all_finite(view.as<BFloat16>());
    default:
      return true;
  }
}

/// Rows of about 4 MiB, so that little of the mapped file is in memory at once.
template <class Visit>
void for_each_slice(const TensorView& view, const Visit& visit) {
  const int64_t element = static_cast<int64_t>(size_of(view.dtype)), step = (int64_t{4} << 20) / element;
  for (int64_t first = 0; first < view.size(); first += step) {
    const TensorView slice{view.dtype, {std::min(step, view.size() - first)}, view.data + first * element};
    visit(slice);
    release_pages({slice.data, slice.bytes()});
  }
}

}  // namespace

std::string hash_model(const Checkpoint& checkpoint) {
  std::vector<std::pair<std::string, TensorView>> tensors(checkpoint.tensors().begin(),
                                                          checkpoint.tensors().end());
  std::vector<std::string> hashes(tensors.size());
  std::vector<char> finite(tensors.size(), 1);
  parallel_for_dynamic(static_cast<int64_t>(tensors.size()), [&](int64_t i) {
    const auto t = static_cast<size_t>(i);
    Sha256 hash;
    for_each_slice(tensors[t].second, [&](const TensorView& slice) {
      hash.update({slice.data, slice.bytes()});
      if (!all_finite(slice)) finite[t] = 0;
    });
    hashes[t] = hash.hex();
  });
  Sha256 total;
  total.update(read_file(checkpoint.dir() / "config.json"));
  for (size_t t = 0; t < tensors.size(); ++t) {
    const auto& [name, view] = tensors[t];
    if (!finite[t]) {
      throw Error("{}: tensor {} holds NaN or infinity; download or convert the model again",
                  checkpoint.dir().string(), name);
    }
    total.update(fmt::format("\n{} {} {} {}", name, name_of(view.dtype), to_string(view.shape), hashes[t]));
  }
  return total.hex();
}

Journal Journal::start(const fs::path& dir, const Fingerprint& fingerprint) {
  Journal journal(dir / kFileName, fingerprint, json::array());
  journal.write();
  return journal;
}

Journal Journal::resume(const fs::path& dir, const Fingerprint& fingerprint) {
  const fs::path file = dir / kFileName;
  const auto afresh = "start afresh with --overwrite";
  if (!fs::exists(file))
    throw Error("{}: not there, so the run cannot be resumed; {}", file.string(), afresh);
  const json value = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  if (!value.is_object() || !value.contains("fingerprint") || !value["fingerprint"].is_object() ||
      !value.contains("blocks") || !value["blocks"].is_array()) {
    throw Error("{}: damaged; {}", file.string(), afresh);
  }
  for (const auto& [part, text] : fingerprint) {
    if (value["fingerprint"].contains(part) && value["fingerprint"][part] == text) continue;
    throw Error("{}: the {} differs from that of the interrupted run; restore it, or {}", file.string(), part,
                afresh);
  }
  return Journal(file, fingerprint, value["blocks"]);
}

void Journal::append(std::vector<json> reports) {
  for (json& report : reports) blocks_.push_back(std::move(report));
  write();
}

void Journal::remove() {
  fs::remove(file_);
}

void Journal::write() const {
  write_file(file_, json{{"fingerprint", fingerprint_}, {"blocks", blocks_}}.dump(1));
}

}  // namespace tessera

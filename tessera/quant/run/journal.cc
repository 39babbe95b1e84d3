// The journal and the hash of the model that it guards.
#include "tessera/quant/run/journal.h"

#include <algorithm>
#include <cmath>

#include "tessera/base/atomic_output.h"
#include "tessera/base/error.h"
#include "tessera/base/hash.h"
#include "tessera/base/json_node.h"
#include "tessera/base/parallel.h"
#include "tessera/quant/run/owned_files.h"
#include "tessera/source/model_files.h"

namespace tessera {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr size_t kHashDigits = 64;

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
    const TensorView slice{
        view.dtype, {std::min(step, view.size() - first)}, view.data + first * element, view.owner};
    visit(slice);
    release_pages(slice);
  }
}

/// Throws Error for the first part that differs, with both texts where they are no hashes.
void check_fingerprint(const Fingerprint& earlier, const Fingerprint& now, const fs::path& journal) {
  for (const auto& [part, text] : now) {
    const auto found = earlier.find(part);
    if (found != earlier.end() && found->second == text) continue;
    const std::string before = found == earlier.end() ? "" : found->second;
    const bool readable = !before.empty() && std::max(text.size(), before.size()) < kHashDigits;
    throw Error("{}: the {} differs from that of the interrupted run{}; restore it", journal.string(), part,
                readable ? fmt::format(" ({}, not {})", before, text) : "");
  }
}

}  // namespace

std::string hash_model(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const auto& [name, info] : checkpoint.tensors()) names.push_back(name);
  std::vector<std::string> hashes(names.size());
  std::vector<char> finite(names.size(), 1);
  parallel_for_dynamic(static_cast<int64_t>(names.size()), [&](int64_t i) {
    const auto t = static_cast<size_t>(i);
    Sha256 hash;
    try {
      for_each_slice(checkpoint.at(names[t]), [&](const TensorView& slice) {
        hash.update({slice.data, slice.bytes()});
        if (!all_finite(slice)) finite[t] = 0;
      });
    } catch (const Error&) {  // of a decoder, for the same reason; it may not leave this thread
      finite[t] = 0;
    }
    hashes[t] = hash.hex();
  });
  Sha256 total;
  total.update(ModelFiles(checkpoint.dir()).read("config.json"));
  for (size_t t = 0; t < names.size(); ++t) {
    const auto& [name, info] = *checkpoint.tensors().find(names[t]);
    if (!finite[t]) {
      throw Error("{}: tensor {} holds NaN or infinity; download or convert the model again",
                  checkpoint.dir().string(), name);
    }
    total.update(fmt::format("\n{} {} {} {}", name, name_of(info.dtype), to_string(info.shape), hashes[t]));
  }
  return total.hex();
}

Journal Journal::start(const fs::path& dir, const Fingerprint& fingerprint, std::set<std::string> files) {
  Journal journal(dir, fingerprint, std::move(files));
  journal.write();
  return journal;
}

Journal Journal::resume(const fs::path& dir, const Fingerprint& fingerprint,
                        const std::set<std::string>& files) {
  const fs::path file = dir / kJournalName;
  if (!fs::exists(file))
    throw Error("{}: not there, so the run cannot be resumed; restore it", file.string());
  const json value = json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  Journal journal(dir, fingerprint, files);
  try {
    check_fingerprint(value.at("fingerprint").get<Fingerprint>(), fingerprint, file);
    journal.read(value);
  } catch (const json::exception&) {
    throw Error("{}: damaged; restore it", file.string());
  }
  journal.check_kept();
  return journal;
}

/// The files of both runs may be there: the model's folder may have others by now.
void Journal::read(const json& value) {
  files_.merge(value.at("files").get<std::set<std::string>>());
  for (const auto& [name, digest] : value.at("kept").items()) {
    kept_[name] = {digest.at("bytes").get<uint64_t>(), digest.at("sha256").get<std::string>()};
  }
  blocks_ = value.at("blocks").get<std::vector<json>>();
  whole_model_ = value.value("whole_model", json());  // an earlier version had none
}

void Journal::check_kept() const {
  for (const auto& [name, digest] : kept_) {  // first all sizes, which cost nothing
    const fs::path file = dir_ / name;
    if (!fs::exists(file))
      throw Error("{}: missing, so the run cannot be resumed; restore it", file.string());
    if (const auto bytes = fs::file_size(file); bytes != digest.bytes) {
      throw Error("{}: has {} bytes instead of {}; restore it", file.string(), bytes, digest.bytes);
    }
  }
  for (const auto& [name, digest] : kept_) {
    if (digest_file(dir_ / name) == digest) continue;
    throw Error("{}: has changed since the run wrote it; restore it", (dir_ / name).string());
  }
}

void Journal::append(std::vector<json> reports) {
  for (json& report : reports) blocks_.push_back(std::move(report));
  write();
}

void Journal::write() const {
  json kept = json::object();
  for (const auto& [name, digest] : kept_) kept[name] = {{"bytes", digest.bytes}, {"sha256", digest.sha256}};
  const json value{{"fingerprint", fingerprint_},
                   {"files", files_},
                   {"kept", kept},
                   {"blocks", blocks_},
                   {"whole_model", whole_model_}};
  write_file(dir_ / kJournalName, json_text(value, 1));
}

}  // namespace tessera

// Loading the plugin that is linked with SentencePiece.
#include "tessera/text/sentencepiece_model.h"

#include <dlfcn.h>

#include "tessera/base/error.h"
#include "tessera/source/sentencepiece_check.h"

namespace tessera {
namespace {

/// The plugin and its libraries look up symbols among themselves first and show none to others.
/// AddressSanitizer does not allow that; the builds with it have no libtorch to clash with.
#ifdef TESSERA_ADDRESS_SANITIZER
constexpr int kScope = RTLD_NOW | RTLD_LOCAL;
#else
constexpr int kScope = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif

using Load = SentencePieceModel* (*)(std::string_view bytes, const std::string& file);

Load open_plugin() {
  void* plugin = ::dlopen("libtessera_sentencepiece.so", kScope);
  void* load = plugin ? ::dlsym(plugin, "tessera_load_sentencepiece") : nullptr;
  if (!load) throw Error("cannot load the SentencePiece plugin: {}", ::dlerror());
  return reinterpret_cast<Load>(load);
}

}  // namespace

std::unique_ptr<SentencePieceModel> SentencePieceModel::load(std::string_view bytes,
                                                             const std::string& file) {
  check_sentencepiece(bytes, file);
  static const Load plugin_load = open_plugin();
  return std::unique_ptr<SentencePieceModel>(plugin_load(bytes, file));
}

}  // namespace tessera

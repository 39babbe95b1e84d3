// Loading the module that is linked with SentencePiece.
#include "tessera/text/sentencepiece_model.h"

#include <dlfcn.h>

#include "tessera/base/error.h"

namespace tessera {
namespace {

/// The module looks up its symbols in itself and its libraries first, and shows none to others.
/// AddressSanitizer does not allow that; the builds with it have no libtorch to clash with.
#ifdef __SANITIZE_ADDRESS__
constexpr int kScope = RTLD_NOW | RTLD_LOCAL;
#else
constexpr int kScope = RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND;
#endif

MakeSentencePieceModel load_module(const std::string& path) {
  void* module = ::dlopen(TESSERA_SENTENCEPIECE_MODULE, kScope);
  void* make = module ? ::dlsym(module, "make_sentencepiece_model") : nullptr;
  if (!make) throw Error("{}: cannot load the SentencePiece library: {}", path, ::dlerror());
  return reinterpret_cast<MakeSentencePieceModel>(make);
}

}  // namespace

std::unique_ptr<SentencePieceModel> load_sentencepiece_model(const std::string& bytes,
                                                             const std::string& path) {
  static const MakeSentencePieceModel make = load_module(path);
  std::string error;
  std::unique_ptr<SentencePieceModel> model(make(bytes, error));
  if (!model) throw Error("{}: {}", path, error);
  return model;
}

}  // namespace tessera

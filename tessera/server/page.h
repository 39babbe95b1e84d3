// The chat page.
#pragma once

#include "tessera/server/http.h"

namespace tessera {

/// page.html, which the build embeds, with a policy under which browsers run its own script and nothing else.
HttpResponse chat_page();

}  // namespace tessera

// Stop strings in a stream of text.
#include "tessera/engine/stop_filter.h"

#include <algorithm>
#include <utility>

namespace tessera {

StopFilter::StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::string StopFilter::push(std::string_view text) {
  if (stopped_) return "";
  pending_ += text;
  size_t stop_at = std::string::npos;
  for (const std::string& stop : stops_) stop_at = std::min(stop_at, pending_.find(stop));
  stopped_ = stop_at != std::string::npos;
  const size_t certain = stopped_ ? stop_at : pending_.size() - possible_beginning();
  std::string out = pending_.substr(0, certain);
  pending_.erase(0, stopped_ ? pending_.size() : certain);
  return out;
}

std::string StopFilter::finish() {
  return std::exchange(pending_, {});
}

size_t StopFilter::possible_beginning() const {
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, pending_.size()); n > longest; --n) {
      if (pending_.ends_with(std::string_view(stop).substr(0, n))) longest = n;
    }
  }
  return longest;
}

}  // namespace tessera

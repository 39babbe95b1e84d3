// The functions that every template can call, and the objects that they make.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tessera/chat/jinja/arguments.h"
#include "tessera/chat/jinja/runtime.h"

namespace tessera::jinja {

/// Thrown by raise_exception(): the message is the template's own.
class Raised : public Error {
 public:
  using Error::Error;
};

/// Attributes that can be set: the one value that changes.
class Namespace : public Object {
 public:
  std::string_view type_name() const override { return "jinja2.utils.Namespace"; }
  Value attribute(Runtime& runtime, std::string_view name) override;
  void set(std::string_view name, Value value);

 private:
  Dict members_;
};

/// A built-in function. Of those that templates see there is one each, constant.
class Function : public Object {
 public:
  using Body = Value (*)(Runtime&, const Arguments&);
  Function(std::string_view name, Body body) : name_(name), body_(body) {}

  std::string_view name() const { return name_; }
  std::string_view type_name() const override { return "function"; }
  bool is_callable() const override { return true; }
  Value call(Runtime& runtime, const Arguments& arguments) override { return body_(runtime, arguments); }

 private:
  std::string_view name_;
  Body body_;
};

/// range, dict, namespace, raise_exception, strftime_now, joiner. Undefined for another name.
Value global_function(std::string_view name);

}  // namespace tessera::jinja

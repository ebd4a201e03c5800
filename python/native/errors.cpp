#include "errors.h"

#include <exception>
#include <initializer_list>
#include <string>

#include "strata/base/error.h"

namespace nb = nanobind;

namespace strata::python {
namespace {

/// The Python classes, which live as long as their module.
struct Classes {
  nb::object error, config, data, budget, io, deadline, corrupt, usage;
};

nb::object make_class(nb::module_& module, const char* name, const char* doc,
                      std::initializer_list<nb::handle> bases) {
  nb::list list;
  for (const nb::handle& base : bases) list.append(base);
  const std::string full_name = std::string("strata.") + name;
  nb::object made =
      nb::steal(PyErr_NewExceptionWithDoc(full_name.c_str(), doc, nb::tuple(list).ptr(), nullptr));
  if (!made.is_valid()) nb::raise_python_error();
  module.attr(name) = made;
  return made;
}

/// Raises `type` with the message, and where the system named one, its errno.
void raise(const nb::object& type, const Error& error, int code = 0) {
  nb::object raised = type(nb::str(error.what()));
  if (code != 0) raised.attr("errno") = code;
  PyErr_SetObject(type.ptr(), raised.ptr());
}

void translate(const std::exception_ptr& thrown, void* payload) {
  const Classes& classes = *static_cast<const Classes*>(payload);
  try {
    std::rethrow_exception(thrown);
  } catch (const ConfigError& error) {
    raise(classes.config, error);
  } catch (const DataError& error) {
    raise(classes.data, error);
  } catch (const BudgetError& error) {
    raise(classes.budget, error);
  } catch (const DeadlineExceeded& error) {
    raise(classes.deadline, error, error.code());
  } catch (const IoError& error) {
    raise(classes.io, error, error.code());
  } catch (const CorruptData& error) {
    raise(classes.corrupt, error);
  } catch (const UsageError& error) {
    raise(classes.usage, error);
  } catch (const Error& error) {
    raise(classes.error, error);
  }
}

}  // namespace

void bind_errors(nb::module_& module) {
  auto* const classes = new Classes;  // for as long as the process may translate
  classes->error =
      make_class(module, "Error", "Base of all errors of Strata.", {nb::handle(PyExc_Exception)});
  const auto derive = [&](const char* name, const char* doc, PyObject* other) {
    return make_class(module, name, doc, {classes->error, nb::handle(other)});
  };
  classes->config = derive("ConfigError", "A setting that cannot be used.", PyExc_ValueError);
  classes->data = derive("DataError", "A file or state dict that is malformed or does not match.",
                         PyExc_ValueError);
  classes->budget =
      derive("BudgetError", "A budget cannot hold what is asked of it.", PyExc_MemoryError);
  classes->io =
      derive("IoError", "A system call or transfer failed; errno says how.", PyExc_OSError);
  classes->deadline = make_class(module, "DeadlineExceeded", "A transfer did not end in time.",
                                 {classes->io, nb::handle(PyExc_TimeoutError)});
  classes->corrupt = derive("CorruptData", "Bytes came back that are not those that were written.",
                            PyExc_RuntimeError);
  classes->usage =
      derive("UsageError", "A call that breaks the contract of the package.", PyExc_RuntimeError);
  nb::register_exception_translator(translate, classes);
}

}  // namespace strata::python

// The kernels themselves, and a table of them.
#include "hostmodel.h"

#include <cstddef>
#include <utility>

#include "../../kernels.cu"

namespace dv_model {

struct Kernel {
    const char *name;
    int params;
    void (*call)(void **params);
};

template <auto F> struct Call;
template <typename... P, void (*F)(P...)> struct Call<F> {
    static const int params = sizeof...(P);
    template <size_t... I> static void with(void **params, std::index_sequence<I...>) { F(*(P *)params[I]...); }
    static void call(void **params) { with(params, std::make_index_sequence<sizeof...(P)>()); }
    static_assert(((sizeof(P) == 8) && ...), "a parameter does not have 8 bytes");
};

extern const Kernel kernels[] = {
#define ENTRY(name) {#name, Call<&name>::params, &Call<&name>::call},
    DV_KERNELS(ENTRY)};
extern const int num_kernels = sizeof kernels / sizeof kernels[0];

} // namespace dv_model

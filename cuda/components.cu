// Connected components with the pi-smallest vertex as label: dedup/internal/components.
#include "common.cuh"

DV_KERNEL dv_distinct(const u64 *ord, i64 n, u32 *table, i64 capacity, u32 *vertex, u64 *full) {
    for (i64 i = thread_of_grid(); i < n; i += threads_in_grid()) {
        u64 slot = first_slot(ord[i], capacity);
        u32 head = 0;
        bool found = false;
        for (i64 probe = 0; probe < capacity && !found; probe++) {
            head = dv_load(table + slot);
            if (head == 0) {
                head = atomicCAS(table + slot, 0u, (u32)i + 1);
                if (head == 0)
                    head = (u32)i + 1;
            }
            found = ord[head - 1] == ord[i];
            slot = (slot + 1) & (u64)(capacity - 1);
        }
        vertex[i] = found ? head - 1 : 0;
        if (!found)
            dv_store(full, (u64)1);
    }
}

DV_KERNEL dv_components_init(i64 n, u32 *parent) {
    for (i64 i = thread_of_grid(); i < n; i += threads_in_grid())
        parent[i] = (u32)i;
}

// root_of finds the root of a vertex, halving the path. A parent is never after its child in pi, and what is not a root never becomes
// one again, so that other threads that do the same meanwhile only shorten paths.
DV_FN u32 root_of(u32 *parent, u32 v) {
    u32 p = dv_load(parent + v);
    while (p != v) {
        const u32 up = dv_load(parent + p);
        if (up != p)
            dv_store(parent + v, up);
        v = p;
        p = up;
    }
    return v;
}

// The larger root is linked to the smaller, by a compare-and-swap that fails if it is no root any more; then both are looked up
// again (Jayanti and Tarjan, Concurrent disjoint set union, 2021). The root of a component is its pi-smallest vertex whatever
// the order of links.
DV_KERNEL dv_components_join(const u32 *u, const u32 *v, i64 edges, const u64 *keep, const u64 *ord, u32 *parent) {
    for (i64 i = thread_of_grid(); i < edges; i += threads_in_grid()) {
        u32 a = root_of(parent, u[i]), b = root_of(parent, v[i]);
        while (a != b) {
            if (ord ? pi_before(keep, ord, b, a) : b < a) {
                const u32 c = a;
                a = b;
                b = c;
            }
            const u32 was = atomicCAS(parent + b, b, a);
            if (was == b)
                break;
            b = root_of(parent, was);
            a = root_of(parent, a);
        }
    }
}

DV_KERNEL dv_components_label(const u32 *vertex, i64 n, u32 *parent, u32 *label) {
    for (i64 i = thread_of_grid(); i < n; i += threads_in_grid())
        label[i] = root_of(parent, vertex ? vertex[i] : (u32)i);
}

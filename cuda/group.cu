// Buckets: records of one key, and the four pi-smallest of each, its leaders: dedup's bucketTable.
#include "common.cuh"

// pi_before reports whether entry a is before entry b in pi, the order by keep key and then ordinal.
DV_FN bool pi_before(const u64 *keep, const u64 *ord, u64 a, u64 b) {
    if (keep && keep[a] != keep[b])
        return keep[a] < keep[b];
    return ord[a] < ord[b];
}

DV_FN u64 first_slot(u64 key, i64 capacity) { return __umul64hi(key, 0x9e3779b97f4a7c15) & (u64)(capacity - 1); }

// A slot of the table is the list of leaders alone: all are of one key, which is that of the first. A record claims an empty slot
// by becoming its first leader, and then goes down the list: where it is before whom it finds it takes the place by a
// compare-and-swap and goes on as the other. Places only ever change to records before; whatever the order of the swaps, a place
// ends with the pi-smallest of all that came by, and all others went on from it. So the lists do not depend on the order of
// threads, and no thread waits for another.
DV_KERNEL dv_group_leaders(const u64 *keys, const u64 *keep, const u64 *ord, i64 from, i64 records, u32 *table, i64 capacity, u64 *full) {
    for (i64 i = from + thread_of_grid(); i < records; i += threads_in_grid()) {
        const u64 key = keys[i];
        u32 me = (u32)i + 1;
        u64 slot = first_slot(key, capacity);
        bool found = false;
        for (i64 probe = 0; probe < capacity; probe++) {
            u32 *leaders = table + DV_LEADERS * slot;
            u32 head = dv_load(leaders);
            if (head == 0)
                head = atomicCAS(leaders, 0u, me);
            found = head == 0 || keys[head - 1] == key;
            if (found) {
                if (head == 0)
                    me = 0; // it is the first
                break;
            }
            slot = (slot + 1) & (u64)(capacity - 1);
        }
        if (!found) {
            dv_store(full, (u64)1);
            continue;
        }
        for (u32 k = 0; k < DV_LEADERS && me != 0; k++) {
            u32 *place = table + DV_LEADERS * slot + k, there = dv_load(place);
            while (there == 0 || pi_before(keep, ord, me - 1, there - 1)) {
                const u32 was = atomicCAS(place, there, me);
                if (was == there) {
                    me = there;
                    break;
                }
                there = was;
            }
        }
    }
}

// leaders_of returns the list of a key that is in the table, or null if it is not.
DV_FN const u32 *leaders_of(u64 key, const u64 *keys, const u32 *table, i64 capacity) {
    u64 slot = first_slot(key, capacity);
    for (i64 probe = 0; probe < capacity; probe++) {
        const u32 *leaders = table + DV_LEADERS * slot;
        if (leaders[0] == 0)
            return 0;
        if (keys[leaders[0] - 1] == key)
            return leaders;
        slot = (slot + 1) & (u64)(capacity - 1);
    }
    return 0;
}

// leaders_before returns how many leaders are before record i, in a bucket of two or more.
DV_FN u32 leaders_before(const u32 *leaders, const u64 *keep, const u64 *ord, i64 i) {
    u32 n = 0;
    while (n < DV_LEADERS && leaders[n] != 0 && pi_before(keep, ord, leaders[n] - 1, i))
        n++;
    return n;
}

DV_KERNEL dv_group_count(const u64 *keys, const u64 *keep, const u64 *ord, i64 records, const u32 *table, i64 capacity, u64 *counts,
                         u64 *buckets) {
    u64 sum = 0;
    for (i64 i = thread_of_grid(); i < records; i += threads_in_grid()) {
        const u32 *leaders = leaders_of(keys[i], keys, table, capacity);
        counts[i] = leaders ? leaders_before(leaders, keep, ord, i) : 0;
        // The second leader counts the bucket.
        if (leaders && leaders[1] == (u32)i + 1)
            sum++;
    }
    sum = sum_of_warp(sum);
    if (threadIdx.x % 32 == 0 && sum > 0)
        atomicAdd(buckets, sum);
}

DV_KERNEL dv_group_pairs(const u64 *keys, const u64 *keep, const u64 *ord, i64 records, const u32 *table, i64 capacity,
                         const u64 *starts, u32 *doc, u32 *leader) {
    for (i64 i = thread_of_grid(); i < records; i += threads_in_grid()) {
        const u64 at = starts[i], n = starts[i + 1] - at;
        if (n == 0)
            continue;
        const u32 *leaders = leaders_of(keys[i], keys, table, capacity);
        for (u64 k = 0; k < n; k++) {
            doc[at + k] = (u32)i;
            leader[at + k] = leaders[k] - 1;
        }
    }
}

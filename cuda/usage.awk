# Makes a table of what ptxas -v says: a line for each kernel, its registers on each kind of GPU, and whatever is spilled.
/Compiling entry function/ {
    split($0, part, "'"); kernel = part[2]
    match(part[4], /[0-9]+/); sm = substr(part[4], RSTART)
    if (!(kernel in seen)) { seen[kernel] = 1; names[++n] = kernel }
    if (!(sm in have)) { have[sm] = 1; sms[++k] = sm }
}
/spill stores/ {
    if ($1 + $5 + $9 > 0) spills[kernel] = spills[kernel] " sm_" sm ": spill of " $5 " bytes stored, " $9 " loaded, stack of " $1 ";"
}
/Used [0-9]+ registers/ {
    match($0, /Used [0-9]+/); registers[kernel, sm] = substr($0, RSTART + 5, RLENGTH - 5)
    bytes = 0
    if (match($0, /[0-9]+ bytes smem/)) bytes = substr($0, RSTART, RLENGTH - 11)
    if (shared[kernel] != "" && shared[kernel] != bytes) spills[kernel] = spills[kernel] " shared memory differs;"
    shared[kernel] = bytes
}
END {
    printf "%-22s %7s", "registers on", "shared"
    for (j = 1; j <= k; j++) printf " %6s", "sm_" sms[j]
    print ""
    for (i = n; i > 0; i--) {
        printf "%-22s %7d", names[i], shared[names[i]]
        for (j = 1; j <= k; j++) printf " %6d", registers[names[i], sms[j]]
        print spills[names[i]]
    }
}

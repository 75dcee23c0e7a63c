// Package bootstrap finds out which rank of which job this process is, from what a launcher left in its environment, and lets the ranks
// find each other: where rank 0 listens, and a secret that nobody else has.
//
// It launches nothing. [Detect] only reads the environment; [Place.Find] exchanges addresses, through PMIx or PMI where the launcher
// offers one of them, else from what the environment says. Nothing that is exchanged here is data: the ranks leave the launcher's
// services as soon as they know where rank 0 is, so that these do not end the others when one rank dies.
package bootstrap

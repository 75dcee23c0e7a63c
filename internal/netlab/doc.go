// Package netlab makes small real networks on one Linux machine, for tests of ranks over them: namespaces of their own for every
// machine there is to be (leaves), joined by a bridge in another, and what happens to networks. A process that is started in a
// leaf is the program itself, over the kernel's own TCP; nothing is simulated.
//
//	lab, err := netlab.New(netlab.Options{Leaves: 4})
//	lab.Start(2, exec.Command("dovetail", ...))   // as if on a machine at lab.Addr(2)
//	lab.Cut(2)                                     // and its cable is pulled
//
// What can happen: a link that is cut and mended ([Lab.Cut], [Lab.Mend]), a cut between two leaves that reach all others
// ([Lab.Part], [Lab.Join]), a rate limit ([Lab.Rate]), and, in a network of long cables ([Options].Long), delay and loss
// ([Lab.Delay], [Lab.Lose]). A long cable is a pair of TAP devices and a goroutine between them, because few kernels for containers and
// small machines have netem. [Lab.Sent] and [Lab.Received] say how many bytes have crossed a link, so that a test can tell that
// it tested something: ranks on one machine find shared memory, if they are let.
//
// It takes root, network namespaces and the commands ip and tc; [New] returns an error that wraps [ErrCannot] where they are missing.
// Namespaces end with [Lab.Close]; those of a test that was killed are removed by the next New, when their process is gone.
package netlab

// Package link is the bookkeeping that transports over a network have in common: how messages are numbered, announced, offered,
// paid for, taken and confirmed; credit; what Post refuses and what Poll returns. It moves no byte: package shuffle/tcp does
// so over connections, package ucx over what UCX finds.
//
// A [Hub] is one rank's end of the links to all others, and each [Link] is one of them. Messages are numbered from 1 in each
// direction; message n is at place n mod shuffle.MaxInFlight of its ring, because no more than that are ever alive. The life
// of a message:
//
//	sender                                      receiver
//	Post                     posted
//	NextAnnounce, if credit  announced   ──▶    Arrive, Enter            received, offered
//	Answered                             ◀──    the caller's answer, in Answers
//	payload moves, Paid      paid        ──▶    Complete                 delivered
//	Taken, Settle            acked       ◀──    Poll                     taken
//	Poll                     reported
//
// What a peer says is checked here as far as it is about numbers and credit; the errors wrap [shuffle.ErrProtocol]. Methods
// are called with the lock of the Hub held, unless they say otherwise.
package link

// Package pmix puts and gets values through PMIx, by which launchers let the processes they have started find each other
// (https://pmix.github.io/standard). libpmix is loaded when it is needed: a program that was built with the tag pmix runs where
// there is none, and [Available] says so. Without the tag there is no PMIx, and no C.
//
// The structures that are passed are those of PMIx's ABI, as its headers have them since version 2, and only the functions are called that
// have been there since then. It was tried with versions 4 and 5 of the library.
package pmix

;; Lacks the function that its world promises.
(func $nothing)

;; Does not export the function of its world.
(func $nothing)
